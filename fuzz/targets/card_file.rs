//! libFuzzer's entry into [`cardea_fuzz::card_file`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::card_file::TARGET), |input: &[u8]| {
    (cardea_fuzz::card_file::TARGET.run)(input);
});
