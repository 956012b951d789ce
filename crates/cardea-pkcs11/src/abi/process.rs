//! What the process that loads the module is: with whose rights it runs, and whether it is a fork.

use std::ffi::c_ulong;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// Looks at the process, once: each entry point begins with it.
pub(crate) fn look() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if has_rights_of_others() {
            cardea_client::environment::distrust();
        }
        cardea_client::tell_forks_by(generation);
    });
}

/// Whether the program is setuid, setgid or has capabilities by its file, so that its environment is the caller's.
fn has_rights_of_others() -> bool {
    /// Linux, `<linux/auxvec.h>`.
    const AT_SECURE: c_ulong = 23;

    // SAFETY: glibc 2.16 and later; takes any number and has no effect.
    unsafe extern "C" {
        safe fn getauxval(kind: c_ulong) -> c_ulong;
    }

    getauxval(AT_SECURE) != 0
}

/// Enough for a number; the kernel rounds it up to a page.
const LENGTH: usize = size_of::<AtomicU64>();

/// A number that the kernel sets to 0 in a child process (`MADV_WIPEONFORK`, madvise(2)). Never unmapped.
struct WipedOnFork(NonNull<AtomicU64>);

// SAFETY: the page is never unmapped, and is accessed as an atomic number only.
unsafe impl Send for WipedOnFork {}
// SAFETY: as above.
unsafe impl Sync for WipedOnFork {}

impl WipedOnFork {
    fn new() -> Option<Self> {
        // SAFETY: an anonymous mapping at a place of the kernel's choice changes no memory that is in use.
        let page = unsafe {
            mmap_anonymous(
                null_mut(),
                LENGTH,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let page = NonNull::new(page.ok()?)?;
        // SAFETY: the page is this mapping's, which nobody else uses.
        unsafe { madvise(page.as_ptr(), LENGTH, Advice::LinuxWipeOnFork) }.ok()?;
        Some(Self(page.cast()))
    }

    fn number(&self) -> &AtomicU64 {
        // SAFETY: the page stays mapped, aligned, and zeros are a valid number.
        unsafe { self.0.as_ref() }
    }
}

/// Differs between a process and those that it forked, also where the process id does not: in another PID namespace a
/// child can have its parent's. 0 where the kernel cannot do that.
fn generation() -> u64 {
    const FIRST: u64 = 1;
    static PAGE: OnceLock<Option<WipedOnFork>> = OnceLock::new();
    // Ordinary memory, of which a child has a copy: no generation is used twice in one line.
    static LAST: AtomicU64 = AtomicU64::new(FIRST);
    let page = PAGE.get_or_init(|| {
        let page = WipedOnFork::new()?;
        // The kernel provides the page once, if it is written before it is read.
        page.number().store(FIRST, Ordering::Relaxed);
        Some(page)
    });
    let Some(page) = page else {
        return 0;
    };
    let number = page.number();
    match number.load(Ordering::Relaxed) {
        0 => {
            let next = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            match number.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => next,
                Err(other) => other,
            }
        }
        known => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_stays_in_a_process() {
        let here = generation();
        assert_ne!(here, 0, "this kernel has MADV_WIPEONFORK");
        let elsewhere = std::thread::spawn(generation).join().unwrap();
        assert_eq!(generation(), here);
        assert_eq!(elsewhere, here);
    }
}
