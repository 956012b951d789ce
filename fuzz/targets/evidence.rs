//! libFuzzer's entry into [`cardea_fuzz::evidence`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::evidence::TARGET), |input: &[u8]| {
    (cardea_fuzz::evidence::TARGET.run)(input);
});
