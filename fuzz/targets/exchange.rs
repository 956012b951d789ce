//! libFuzzer's entry into [`cardea_fuzz::exchange`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::exchange::TARGET), |input: &[u8]| {
    (cardea_fuzz::exchange::TARGET.run)(input);
});
