//! libFuzzer's entry into [`cardea_fuzz::apdu`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::apdu::TARGET), |input: &[u8]| {
    (cardea_fuzz::apdu::TARGET.run)(input);
});
