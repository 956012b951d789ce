//! libFuzzer's entry into [`cardea_fuzz::dcom_reference`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::dcom_reference::TARGET), |input: &[u8]| {
    (cardea_fuzz::dcom_reference::TARGET.run)(input);
});
