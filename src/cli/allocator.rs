use libmimalloc_sys::{mi_option_get, mi_option_set_default, mi_option_t};

/// How long free memory is kept, in milliseconds, which `MIMALLOC_PURGE_DELAY` says otherwise: longer than it takes until a page
/// of a command's output comes into the memory of the one before.
const KEPT: std::ffi::c_long = 50;

/// The option's number, `mi_option_purge_delay`, which the bindings lack, and its value where nobody has chosen one.
const PURGE_DELAY: (mi_option_t, std::ffi::c_long) = (15, 1000);

/// Lets mimalloc give free memory back soon: by itself it keeps it for a second, and from then until somebody asks for more,
/// which may be long where thousands of workspaces have become idle at once.
///
/// For programs that allocate with it, `wsfleet` and those that measure what it takes: first thing, before they have other threads.
#[doc(hidden)]
#[expect(unsafe_code, reason = "options of the C library are set through its own functions")]
pub fn give_memory_back_soon() {
    let (option, usual) = PURGE_DELAY;
    // SAFETY: both refuse numbers of options that there are not, and one that has another meaning in another version has another
    // value and stays as it is. Should other threads read the option meanwhile, it is a word that is stored at once, and they have
    // the one value or the other.
    unsafe {
        if mi_option_get(option) == usual {
            mi_option_set_default(option, KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "options of the C library are read through its own functions")]
    fn the_option_is_the_one_that_is_meant() {
        give_memory_back_soon();
        // SAFETY: as above.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY.0) }, KEPT, "mimalloc has it under another number now");
    }
}
