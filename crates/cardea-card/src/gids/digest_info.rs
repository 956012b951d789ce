//! DigestInfo of PKCS#1 v1.5 signatures (RFC 8017 §9.2) and the padding around anything else.

use crate::token::HashAlgorithm;

/// The hash and digest in a DigestInfo of exactly the form that a signer of its own would make.
///
/// Anything else (unknown hashes, missing NULL, 36 bytes of MD5 ‖ SHA-1, a bare hash) is `None` and
/// must be signed as it is.
pub(super) fn recognise(data: &[u8]) -> Option<(HashAlgorithm, &[u8])> {
    KNOWN.iter().find_map(|(hash, prefix)| {
        let digest = data.strip_prefix(*prefix)?;
        (digest.len() == hash.size()).then_some((*hash, digest))
    })
}

/// EMSA-PKCS1-v1_5 around the data as given: `00 01 FF … FF 00 data`. `None` when fewer than eight
/// bytes of padding would be left.
pub(super) fn pad(data: &[u8], size: usize) -> Option<Vec<u8>> {
    let padding = size.checked_sub(data.len() + 3).filter(|&n| n >= 8)?;
    let mut block = Vec::with_capacity(size);
    block.extend_from_slice(&[0x00, 0x01]);
    block.extend(std::iter::repeat_n(0xFF, padding));
    block.push(0x00);
    block.extend_from_slice(data);
    Some(block)
}

const KNOWN: [(HashAlgorithm, &[u8]); 4] = [
    (
        HashAlgorithm::Sha1,
        &[
            0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2B, 0x0E, 0x03, 0x02, 0x1A, 0x05, 0x00, 0x04,
            0x14,
        ],
    ),
    (
        HashAlgorithm::Sha256,
        &[
            0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            0x01, 0x05, 0x00, 0x04, 0x20,
        ],
    ),
    (
        HashAlgorithm::Sha384,
        &[
            0x30, 0x41, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            0x02, 0x05, 0x00, 0x04, 0x30,
        ],
    ),
    (
        HashAlgorithm::Sha512,
        &[
            0x30, 0x51, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            0x03, 0x05, 0x00, 0x04, 0x40,
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_prefix_with_its_digest_is_recognised() {
        for (hash, prefix) in KNOWN {
            let digest = vec![0x5A; hash.size()];
            let info = [prefix, &digest].concat();
            assert_eq!(recognise(&info), Some((hash, digest.as_slice())));
            assert_eq!(info[1] as usize + 2, info.len(), "outer length");
            assert_eq!(recognise(&info[..info.len() - 1]), None);
            assert_eq!(recognise(&[info.as_slice(), &[0]].concat()), None);
        }
    }

    #[test]
    fn other_data_is_left_alone() {
        assert_eq!(recognise(&[0; 36]), None);
        assert_eq!(recognise(&[0; 32]), None);
        assert_eq!(recognise(&[]), None);
    }

    #[test]
    fn padding_fills_the_block_and_keeps_eight_bytes() {
        let block = pad(&[0xAB; 245], 256).unwrap();
        assert_eq!(block.len(), 256);
        assert_eq!(block[..2], [0, 1]);
        assert_eq!(block[2..10], [0xFF; 8]);
        assert_eq!(block[10], 0);
        assert_eq!(block[11..], [0xAB; 245]);
        assert_eq!(pad(&[0xAB; 246], 256), None);
        assert_eq!(pad(&[], 256).unwrap()[254..], [0xFF, 0x00]);
        assert_eq!(pad(&[0; 400], 256), None);
    }
}
