//! The verifier against bundles of a TPM in software, good ones and lies.

mod authority;
mod credential;
mod csr;
mod damage;
mod endorsement;
mod exchange;
mod good;
mod lies;
mod maker;
mod software_tpm;
mod stranger;
mod webauthn;

pub(crate) fn hex(text: &str) -> Vec<u8> {
    base16ct::mixed::decode_vec(text).unwrap()
}

/// Numbers that look random and are the same in every run (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below a limit.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill_with(|| self.next().to_be_bytes()[7]);
    }
}
