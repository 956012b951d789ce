//! libFuzzer's entry into [`cardea_fuzz::secret_files`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cardea_fuzz::seed(&cardea_fuzz::secret_files::TARGET), |input: &[u8]| {
    (cardea_fuzz::secret_files::TARGET.run)(input);
});
