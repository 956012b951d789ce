//! libFuzzer's entry into [`cardea_fuzz::dcom_activation`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::dcom_activation::TARGET), |input: &[u8]| {
    (cardea_fuzz::dcom_activation::TARGET.run)(input);
});
