//! libFuzzer's entry into [`cardea_fuzz::dcom_message`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::dcom_message::TARGET), |input: &[u8]| {
    (cardea_fuzz::dcom_message::TARGET.run)(input);
});
