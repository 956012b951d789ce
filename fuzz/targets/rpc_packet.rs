//! libFuzzer's entry into [`cardea_fuzz::rpc_packet`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::rpc_packet::TARGET), |input: &[u8]| {
    (cardea_fuzz::rpc_packet::TARGET.run)(input);
});
