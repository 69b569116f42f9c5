#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| workspace_fleet::fuzzing::header(bytes));
