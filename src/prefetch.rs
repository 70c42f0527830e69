//! Asks the processor to bring memory that is wanted soon into its cache, so that the waits for several places overlap.
//! Where there is no such instruction, nothing happens.

#![expect(unsafe_code, reason = "the instruction can only be written with unsafe; this file holds nothing else")]

/// Brings the first cache line of a value near, to be read or written soon. Changes nothing that a program can see.
#[inline(always)]
pub(crate) fn prefetch<T>(wanted: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction; it only hints, and the pointer comes from a reference.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(wanted).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = wanted;
}
