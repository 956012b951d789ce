//! libFuzzer's entry into [`cardea_fuzz::spnego`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::spnego::TARGET), |input: &[u8]| {
    (cardea_fuzz::spnego::TARGET.run)(input);
});
