//! libFuzzer's entry into [`cardea_fuzz::kerberos`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::kerberos::TARGET), |input: &[u8]| {
    (cardea_fuzz::kerberos::TARGET.run)(input);
});
