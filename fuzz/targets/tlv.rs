//! libFuzzer's entry into [`cardea_fuzz::tlv`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::tlv::TARGET), |input: &[u8]| {
    (cardea_fuzz::tlv::TARGET.run)(input);
});
