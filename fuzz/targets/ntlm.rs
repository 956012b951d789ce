//! libFuzzer's entry into [`cardea_fuzz::ntlm`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::ntlm::TARGET), |input: &[u8]| {
    (cardea_fuzz::ntlm::TARGET.run)(input);
});
