//! The numbers of an RSA private key, and whether they belong together.
//!
//! A TPM takes the modulus and one prime and computes the rest. A key of which another number is false signs well there,
//! and not with the program that it came from, or the other way round: one of the two is not the key that was meant.

use crypto_bigint::{NonZero, U1024, U1536, U2048, U3072, Uint, Word};
use zeroize::{Zeroize, Zeroizing};

/// The numbers of an RSA private key with the public exponent 65537, big-endian; leading zeros do not count.
///
/// Those that are not given are not checked. That the primes are prime is for whoever keeps the key to find out.
#[derive(Clone, Copy)]
pub struct RsaNumbers<'a> {
    /// n.
    pub modulus: &'a [u8],
    /// d.
    pub private_exponent: Option<&'a [u8]>,
    /// p.
    pub prime_1: &'a [u8],
    /// q.
    pub prime_2: Option<&'a [u8]>,
    /// d mod (p - 1).
    pub exponent_1: Option<&'a [u8]>,
    /// d mod (q - 1).
    pub exponent_2: Option<&'a [u8]>,
    /// The inverse of q modulo p.
    pub coefficient: Option<&'a [u8]>,
}

/// What does not belong to the rest of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaMisfit {
    /// The inverse of the second prime.
    Coefficient,
    /// The exponent for the first prime.
    Exponent1,
    /// The exponent for the second prime.
    Exponent2,
    /// The length of the modulus or of a prime.
    Length,
    /// The primes are not the factors of the modulus, or are the same.
    Primes,
    /// The private exponent.
    PrivateExponent,
}

impl RsaNumbers<'_> {
    /// Whether the numbers belong together.
    ///
    /// # Errors
    /// The first number that does not.
    pub fn check(&self) -> Result<(), RsaMisfit> {
        match without_zeros(self.modulus).len() {
            256 => self.check_sized::<{ U2048::LIMBS }, { U1024::LIMBS }>(),
            384 => self.check_sized::<{ U3072::LIMBS }, { U1536::LIMBS }>(),
            _ => Err(RsaMisfit::Length),
        }
    }

    fn check_sized<const FULL: usize, const HALF: usize>(&self) -> Result<(), RsaMisfit> {
        use RsaMisfit::{Coefficient, Exponent1, Exponent2, Length, Primes, PrivateExponent};
        // The highest bit is the length: a TPM takes a prime of exactly half the modulus.
        let prime = |bytes: &[u8]| -> Result<Zeroizing<Uint<HALF>>, RsaMisfit> {
            let prime = number::<HALF>(bytes).ok_or(Length)?;
            let is_long_enough = without_zeros(bytes).len() == HALF * size_of::<Word>()
                && without_zeros(bytes).first() >= Some(&0x80);
            is_long_enough.then_some(prime).ok_or(Length)
        };
        let n = number::<FULL>(self.modulus).ok_or(Length)?;
        let p = prime(self.prime_1)?;
        let given = self.prime_2.map(prime).transpose()?;
        let p = Zeroizing::new(NonZero::new(*p).into_option().ok_or(Primes)?);
        let (quotient, rest) = n.div_rem(&p);
        let quotient = Zeroizing::new(quotient);
        let q: Zeroizing<Uint<HALF>> = Zeroizing::new(quotient.resize());
        let is_whole = rest == Uint::ZERO && q.resize::<FULL>() == *quotient;
        // A square cannot be an RSA modulus.
        if !is_whole || *q == p.get() || given.is_some_and(|given| *given != *q) {
            return Err(Primes);
        }
        let q = Zeroizing::new(NonZero::new(*q).into_option().ok_or(Primes)?);

        // Fermat: p - 1 divides e·d - 1 exactly if d undoes e modulo p.
        for prime in [&p, &q] {
            if let Some(exponent) = self.private_exponent {
                let exponent = number::<FULL>(exponent).ok_or(PrivateExponent)?;
                let less = one_less(prime).ok_or(Primes)?;
                if !undoes_f4(&Zeroizing::new(exponent.rem(&less)), &less) {
                    return Err(PrivateExponent);
                }
            }
        }
        for (given, prime, misfit) in [
            (self.exponent_1, &p, Exponent1),
            (self.exponent_2, &q, Exponent2),
        ] {
            if let Some(given) = given {
                let exponent = number::<HALF>(given).ok_or(misfit)?;
                let less = one_less(prime).ok_or(Primes)?;
                if !undoes_f4(&Zeroizing::new(exponent.rem(&less)), &less) {
                    return Err(misfit);
                }
            }
        }
        if let Some(given) = self.coefficient {
            let inverse = number::<HALF>(given).ok_or(Coefficient)?;
            if inverse.mul_mod(&q.get(), &p) != Uint::ONE {
                return Err(Coefficient);
            }
        }
        Ok(())
    }
}

/// `exponent · 65537 mod modulus = 1`; the exponent is below the modulus.
fn undoes_f4<const LIMBS: usize>(exponent: &Uint<LIMBS>, modulus: &NonZero<Uint<LIMBS>>) -> bool {
    exponent.mul_mod(&Uint::from(65537_u32), modulus) == Uint::ONE
}

fn one_less<const LIMBS: usize>(
    number: &NonZero<Uint<LIMBS>>,
) -> Option<Zeroizing<NonZero<Uint<LIMBS>>>> {
    let less = NonZero::new(number.get().wrapping_sub(&Uint::ONE)).into_option();
    less.map(Zeroizing::new)
}

/// A number of at most this length.
fn number<const LIMBS: usize>(bytes: &[u8]) -> Option<Zeroizing<Uint<LIMBS>>> {
    let bytes = without_zeros(bytes);
    if bytes.len() > LIMBS * size_of::<Word>() {
        return None;
    }
    let mut words = [0; LIMBS];
    for (word, chunk) in words.iter_mut().zip(bytes.rchunks(size_of::<Word>())) {
        *word = chunk
            .iter()
            .fold(0, |sum: Word, byte| sum << 8 | Word::from(*byte));
    }
    let number = Zeroizing::new(Uint::from_words(words));
    words.zeroize();
    Some(number)
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
