//! What an RSA key must be before a card keeps it.
//!
//! Infineon's firmware of before October 2017 made primes of the form k·M + (65537^a mod M), where M is the product of
//! the first primes (CVE-2017-15361, "ROCA"): whoever has the public key can compute the private one. So the modulus,
//! too, is a power of 65537 modulo each prime below 168, as hardly any other is.

use cardea_card::token::{KeyInfo, PublicKey};
use crypto_bigint::{BoxedUint, NonZero};
use crypto_primes::{Flavor, is_prime};
use zeroize::Zeroizing;

use crate::error::TpmError;

/// The primes below 168 for which not every number is a power of 65537. The others tell nothing.
const TELLING: [u8; 17] = [
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
];

/// Refuses a key that the TPM has just made, if others could compute its private part.
pub(crate) fn refuse_weak(key: &KeyInfo) -> Result<(), TpmError> {
    match &key.public {
        PublicKey::Rsa { modulus, .. } if is_suspect(modulus) => Err(TpmError::WeakRsaKey),
        _ => Ok(()),
    }
}

/// Refuses an RSA key from outside that could not work: TPMs divide the modulus by the prime that they get and ask no
/// more. `modulus` and `prime` are big-endian, the prime half as long.
///
/// # Errors
///
/// [`TpmError::Mismatch`] unless the modulus is the product of two different primes for which 65537 is an exponent;
/// [`TpmError::WeakRsaKey`].
pub(crate) fn check_import(modulus: &[u8], prime: &[u8]) -> Result<(), TpmError> {
    if is_suspect(modulus) {
        return Err(TpmError::WeakRsaKey);
    }
    let other = cofactor(modulus, prime).ok_or(TpmError::Mismatch)?;
    let usable = |prime: &[u8]| remainder(prime, 65537) != 1 && is_prime_number(prime);
    if *other == *prime || !usable(prime) || !usable(&other) {
        return Err(TpmError::Mismatch);
    }
    Ok(())
}

/// The other factor of the modulus, as long as this one.
fn cofactor(modulus: &[u8], prime: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let bits = u32::try_from(modulus.len()).ok()?.checked_mul(8)?;
    let product = BoxedUint::from_be_slice(modulus, bits).ok()?;
    let factor = Zeroizing::new(BoxedUint::from_be_slice(prime, bits).ok()?);
    let factor = Zeroizing::new(NonZero::new((*factor).clone()).into_option()?);
    let (quotient, rest) = product.div_rem(&factor);
    if rest.is_zero().into() {
        let bytes = Zeroizing::new(Zeroizing::new(quotient).to_be_bytes());
        let (high, low) = bytes.split_at_checked(bytes.len().checked_sub(prime.len())?)?;
        let fits = high.iter().all(|byte| *byte == 0);
        return fits.then(|| Zeroizing::new(low.to_vec()));
    }
    None
}

fn is_prime_number(number: &[u8]) -> bool {
    let bits = u32::try_from(number.len() * 8).unwrap_or(u32::MAX);
    BoxedUint::from_be_slice(number, bits)
        .is_ok_and(|number| is_prime(Flavor::Any, &*Zeroizing::new(number)))
}

fn remainder(number: &[u8], divisor: u32) -> u32 {
    let rest = number.iter().fold(0u64, |rest, byte| {
        ((rest << 8) | u64::from(*byte)) % u64::from(divisor)
    });
    u32::try_from(rest).unwrap_or_default()
}

/// Whether a modulus (big-endian) has the form that the faulty firmware gave it. One from elsewhere has it by chance
/// once in 230 million (2^27.8).
pub(crate) fn is_suspect(modulus: &[u8]) -> bool {
    TELLING
        .into_iter()
        .map(u32::from)
        .all(|prime| is_power_of_65537(remainder(modulus, prime), prime))
}

fn is_power_of_65537(number: u32, prime: u32) -> bool {
    let mut power = 1;
    (0..prime).any(|_| {
        let reached = power == number;
        power = power * (65537 % prime) % prime;
        reached
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use cardea_card::token::{KeyAlgorithm, KeyClass, KeyOrigin};
    use crypto_bigint::ConcatenatingMul;

    use super::*;

    /// Made as the faulty firmware makes them.
    pub(crate) fn weak_modulus() -> Vec<u8> {
        bytes(MODULUS)
    }

    /// A key of 2,048 bits that the TPM has made.
    pub(crate) fn generated(modulus: Vec<u8>) -> KeyInfo {
        KeyInfo {
            algorithm: KeyAlgorithm::Rsa2048,
            class: KeyClass::Session,
            origin: KeyOrigin::Generated,
            is_recoverable: false,
            public: PublicKey::Rsa {
                modulus,
                exponent: 65537,
            },
        }
    }

    fn bytes(digits: &str) -> Vec<u8> {
        base16ct::lower::decode_vec(digits.replace('\n', "")).unwrap()
    }

    /// The product of two numbers, by the library that checks it.
    fn product(a: &[u8], b: &[u8]) -> Vec<u8> {
        let number = |bytes: &[u8]| BoxedUint::from_be_slice(bytes, 1024).unwrap();
        number(a)
            .concatenating_mul(&number(b))
            .to_be_bytes()
            .to_vec()
    }

    #[test]
    fn only_two_different_primes_make_a_key() {
        let [p, q, composite, no_exponent] = [PRIME_P, PRIME_Q, COMPOSITE, NO_EXPONENT].map(bytes);
        for (a, b) in [(&p, &q), (&q, &p)] {
            check_import(&product(a, b), a).unwrap();
        }
        for (modulus, prime, what) in [
            (product(&p, &composite), &p, "the other factor is composite"),
            (product(&p, &composite), &composite, "composite"),
            (product(&p, &p), &p, "a square"),
            (product(&p, &no_exponent), &p, "65537 divides q - 1"),
            (product(&p, &q), &composite, "no divisor"),
            (product(&p, &q), &vec![0; 128], "zero"),
        ] {
            let checked = check_import(&modulus, prime);
            assert!(matches!(checked, Err(TpmError::Mismatch)), "{what}");
        }
        let mut other = product(&p, &q);
        other[255] ^= 2;
        assert!(matches!(check_import(&other, &p), Err(TpmError::Mismatch)));
    }

    #[test]
    fn weak_key_is_refused_wherever_it_comes_from() {
        let (modulus, prime) = (bytes(MODULUS), bytes(WEAK_PRIME));
        assert!(matches!(
            check_import(&modulus, &prime),
            Err(TpmError::WeakRsaKey)
        ));
        assert!(matches!(
            refuse_weak(&generated(modulus)),
            Err(TpmError::WeakRsaKey)
        ));
        let [p, q] = [PRIME_P, PRIME_Q].map(bytes);
        refuse_weak(&generated(product(&p, &q))).unwrap();
    }

    #[test]
    fn modulus_made_by_the_faulty_firmwares_rule_is_suspect() {
        assert!(is_suspect(&bytes(MODULUS)));
    }

    #[test]
    fn other_moduli_are_not_suspect() {
        let mut modulus = bytes(MODULUS);
        for at in [0, 100, 255] {
            modulus[at] ^= 2;
            assert!(!is_suspect(&modulus), "byte {at}");
        }
        assert!(!is_suspect(&[0xFF; 256]));
    }

    #[test]
    fn remainder_of_zero_is_no_power() {
        for prime in TELLING {
            assert!(!is_power_of_65537(0, prime.into()), "{prime}");
        }
    }

    /// The product of two 1,024-bit primes k·M + (65537^a mod M), M being the product of the first 126 primes.
    const MODULUS: &str = include_str!("../tests/weak_rsa/modulus.hex");

    /// One of its primes.
    const WEAK_PRIME: &str = include_str!("../tests/weak_rsa/prime.hex");

    /// Primes of 1,024 bits.
    const PRIME_P: &str = "\
        e3e6efe6e8b8ac5b1a64169ae080613adcaab8570d7effe5597466783f930783e217452a955c337bf8fc40e472bba862\
        a6455fa1c60fdae3255e20dcb7f85e303b216044c8bb2c13c5f35df2672e084b85e0cae94c703baf27f1b349e5460384\
        0bc19aef3089eadf66a989fc1d50750e306a21f4f5939f79a4e977d1ddaa2b69";

    const PRIME_Q: &str = "\
        d2933f484918adb0d48208105ce6639d3887a6b1c55537d8f7052128a987c1931e3f88affaaceda3c38869bb5d038125\
        c77c8bfd646c258d4958edd3b93b6529143b6db1b60756738e55f7a9347b1902fdf72967e1616a13e6c791cc8921d257\
        a07e5dca44f97b7c563a1c93a596aa937b3a29445d50ea22f3fb66ff27734845";

    /// The product of two primes of 512 bits.
    const COMPOSITE: &str = "\
        ef0b9c2b11726105b65fa80e2fe2b377b48f99d39785e310c3619ca25ce7d5e6d6a725c6ab08d16f05a4971ba71dd0bc\
        ae416b4cac3947d3c77dff6c2eae400aaafa4e3aac181b0ccd0fed83424e087e8f0b81fad71f9547581b38ff9f3bef0e\
        85b5b2e3fe31f81bbc1adf5bbfbb9cf3c8620726ee24e3a5c59a70d2b218635b";

    /// A prime of which 65537 divides the predecessor.
    const NO_EXPONENT: &str = "\
        800006d9a943375a03d4bde9b995b974b064fe99ef26d5e86a43a8eac368c8416fda1268f5c13989034982bf935522cd\
        f87059f4dc9ce5d811acc92fd1502ae75eb17f62d19a5f8b244197b690f2443f0b068e82ccb919b04bfefa6fefdca1b0\
        2b7318d78350ed4855232d3acf7457b5f57411d321afdbe61124fa0191d35c17";
}
