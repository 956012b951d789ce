//! libFuzzer's entry into [`cardea_fuzz::apdu_parse`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::apdu_parse::TARGET), |input: &[u8]| {
    (cardea_fuzz::apdu_parse::TARGET.run)(input);
});
