//! What holds while requests, answers and connections break: everything ends in bounded time, with the right result or the
//! right error; no command runs twice, no output is lost or doubled, and nothing is left behind.

mod cells;
mod flood;
mod gateway;
mod matrix;
mod noise;
mod operations;
mod scene;
mod searches;
mod soak;
mod starts;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
mod sweep;
