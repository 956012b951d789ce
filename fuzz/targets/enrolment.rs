//! libFuzzer's entry into [`cardea_fuzz::enrolment`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::enrolment::TARGET), |input: &[u8]| {
    (cardea_fuzz::enrolment::TARGET.run)(input);
});
