//! Why evidence is refused: codes with numbers and names that stay, and a sentence for each.

use std::fmt;

use cardea_pki::PathError;

macro_rules! codes {
    ($($variant:ident = $number:literal $name:literal $sentence:literal)*) => {
        /// Why evidence, an endorsement key or a message is refused, in the order of the checks.
        ///
        /// The hundreds are the step. Numbers and names stay.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = concat!("`", $name, "`: ", $sentence, ".")] $variant = $number,)*
        }

        impl Code {
            /// All, in their order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name, for programs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it means, for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)*
                }
            }
        }
    };
}

codes! {
    BundleSize = 1 "bundle-size" "the bundle is larger than 1 MiB"
    BundleForm = 2 "bundle-form" "the bundle is damaged, incomplete, or not encoded in its one canonical form"
    BundleVersion = 3 "bundle-version" "this is not evidence of a version that this verifier knows"
    Nonce = 101 "nonce" "the bundle answers another nonce than the one that was asked for"
    AkTemplate = 201 "ak-template" "the attestation key is not restricted to what the TPM says about itself"
    AkUnknown = 202 "ak-unknown" "the attestation key has no certificate and is not pinned"
    AkCertKey = 203 "ak-cert-key" "the certificate belongs to another key than the attestation key"
    AkChain = 204 "ak-chain" "the certificate of the attestation key is not valid"
    AkEku = 205 "ak-eku" "the certificate was not issued for an attestation key"
    SrkTemplate = 301 "srk-template" "the storage root key is not one that keeps its keys in the TPM"
    BirthTemplate = 302 "birth-template" "the birth key's public area is not as Cardea makes it"
    WitnessSignature = 501 "witness-signature" "the attestation key did not sign the statement about the witness key"
    WitnessMagic = 502 "witness-magic" "the statement about the witness key was not made by a TPM"
    WitnessType = 503 "witness-type" "the statement about the witness key is of another kind"
    WitnessNonce = 504 "witness-nonce" "the statement about the witness key answers another nonce"
    WitnessForm = 505 "witness-form" "the statement about the witness key is malformed"
    WitnessHierarchy = 506 "witness-hierarchy" "the statement about the witness key was signed by a key in another place of the TPM"
    WitnessTemplate = 507 "witness-template" "the witness key is not bound to the reset that followed the card's creation"
    WitnessName = 508 "witness-name" "the statement is about another key than the witness key, or the key is in another place of the TPM"
    SealedSignature = 601 "x-signature" "the statement about index X was not signed by the key that must sign it"
    SealedMagic = 602 "x-magic" "the statement about index X was not made by a TPM"
    SealedType = 603 "x-type" "the statement about index X is of another kind"
    SealedNonce = 604 "x-nonce" "the statement about index X answers another nonce"
    SealedForm = 605 "x-form" "the statement about index X is malformed"
    SealedHierarchy = 606 "x-hierarchy" "the statement about index X was signed by a key in another place of the TPM"
    SealedHandle = 607 "x-handle" "index X is not where a card's indices are"
    SealedPublic = 608 "x-public" "index X can be changed after the card's creation"
    SealedName = 609 "x-name" "the statement is about another index than X"
    SealedRange = 610 "x-range" "the statement does not show all of index X"
    PinSignature = 701 "pin-signature" "the statement about the PIN's index was not signed by the key that must sign it"
    PinMagic = 702 "pin-magic" "the statement about the PIN's index was not made by a TPM"
    PinType = 703 "pin-type" "the statement about the PIN's index is of another kind"
    PinNonce = 704 "pin-nonce" "the statement about the PIN's index answers another nonce"
    PinForm = 705 "pin-form" "the statement about the PIN's index is malformed"
    PinHierarchy = 706 "pin-hierarchy" "the statement about the PIN's index was signed by a key in another place of the TPM"
    PinPublic = 707 "pin-public" "the PIN's index does not count wrong PINs as a card's must"
    PinName = 708 "pin-name" "the statement is about another index than the PIN's"
    PinRange = 709 "pin-range" "the statement does not show all of the PIN's index"
    AdmSignature = 721 "adm-signature" "the statement about the administrator's index was not signed by the key that must sign it"
    AdmMagic = 722 "adm-magic" "the statement about the administrator's index was not made by a TPM"
    AdmType = 723 "adm-type" "the statement about the administrator's index is of another kind"
    AdmNonce = 724 "adm-nonce" "the statement about the administrator's index answers another nonce"
    AdmForm = 725 "adm-form" "the statement about the administrator's index is malformed"
    AdmHierarchy = 726 "adm-hierarchy" "the statement about the administrator's index was signed by a key in another place of the TPM"
    AdmPublic = 727 "adm-public" "the administrator's index does not count wrong answers as a card's must"
    AdmName = 728 "adm-name" "the statement is about another index than the administrator's"
    AdmRange = 729 "adm-range" "the statement does not show all of the administrator's index"
    PukSignature = 741 "puk-signature" "the statement about the PUK's index was not signed by the key that must sign it"
    PukMagic = 742 "puk-magic" "the statement about the PUK's index was not made by a TPM"
    PukType = 743 "puk-type" "the statement about the PUK's index is of another kind"
    PukNonce = 744 "puk-nonce" "the statement about the PUK's index answers another nonce"
    PukForm = 745 "puk-form" "the statement about the PUK's index is malformed"
    PukHierarchy = 746 "puk-hierarchy" "the statement about the PUK's index was signed by a key in another place of the TPM"
    PukPublic = 747 "puk-public" "the PUK's index does not count wrong PUKs as a card's must"
    PukName = 748 "puk-name" "the statement is about another index than the PUK's"
    PukRange = 749 "puk-range" "the statement does not show all of the PUK's index"
    SealedContent = 801 "x-content" "the card allows other ways to change or unblock its PIN than those that the bundle shows"
    KeySignature = 901 "key-signature" "the attestation key did not sign the statement about a key"
    KeyMagic = 902 "key-magic" "the statement about a key was not made by a TPM"
    KeyType = 903 "key-type" "the statement about a key is of another kind"
    KeyNonce = 904 "key-nonce" "the statement about a key answers another nonce"
    KeyForm = 905 "key-form" "the statement about a key, or its public area, is malformed"
    KeyHierarchy = 906 "key-hierarchy" "a key, or the key that signed the statement about it, is in another place of the TPM"
    KeyAttributes = 907 "key-attributes" "a key can be used or taken out in ways that a card's keys must not allow"
    KeyScheme = 908 "key-scheme" "a key is of a kind that cards do not hold"
    CreationMissing = 909 "creation-missing" "a recoverable key comes without the proof that the TPM made it"
    KeyTarget = 910 "key-target" "a key can be recovered by something that is not a recovery key, or its recovery keys are not in order"
    KeyPolicy = 911 "key-policy" "a key does not ask for this card's PIN, or can be used or recovered in other ways too"
    KeyName = 912 "key-name" "the statement is about another key"
    CreationSignature = 921 "creation-signature" "the attestation key did not sign the statement about a key's creation"
    CreationMagic = 922 "creation-magic" "the statement about a key's creation was not made by a TPM"
    CreationType = 923 "creation-type" "the statement about a key's creation is of another kind"
    CreationNonce = 924 "creation-nonce" "the statement about a key's creation answers another nonce"
    CreationForm = 925 "creation-form" "the statement about a key's creation, or the creation data, is malformed"
    CreationHierarchy = 926 "creation-hierarchy" "the statement about a key's creation was signed by a key in another place of the TPM"
    CreationName = 927 "creation-name" "the statement is about the creation of another key"
    CreationHash = 928 "creation-hash" "the creation data are not those that the statement is about"
    CreationParent = 929 "creation-parent" "a key was made below another key than this storage root key"
    PinLimit = 1001 "pin-limit" "the card allows more wrong PINs than the policy"
    Level = 1002 "level" "the evidence is of a lower level than the policy asks for"
    NoAdministrator = 1003 "administrator" "the card has an administrator, and the policy allows none"
    Authority = 1004 "authority" "the attestation key's certificate comes from an authority that the policy does not accept"
    Firmware = 1005 "firmware" "the TPM's firmware is excluded by the policy, or is not known"
    KeyOrigin = 1006 "key-origin" "a key was imported, and the policy asks for keys that the TPM made"
    KeyClass = 1007 "key-class" "a key does not ask for the PIN before each use, and the policy demands it"
    KeyRecovery = 1008 "key-recovery" "a key can be recovered by someone whom the policy does not accept"
    EkForm = 1101 "ek-form" "the endorsement key's public area is malformed"
    EkAttributes = 1102 "ek-attributes" "the endorsement key is not a storage key that stays in its TPM"
    EkAlgorithm = 1103 "ek-algorithm" "the endorsement key is of a kind for which no credential can be made"
    EkUnknown = 1104 "ek-unknown" "the endorsement key has no certificate and is not pinned"
    EkCertKey = 1105 "ek-cert-key" "the certificate belongs to another key than the endorsement key"
    EkChain = 1106 "ek-chain" "the certificate of the endorsement key is not valid"
    EkEku = 1107 "ek-eku" "the certificate was not issued for an endorsement key"
    EkUsage = 1108 "ek-usage" "the certificate does not allow the endorsement key to decrypt"
    EkNv = 1109 "ek-nv" "the TPM's certificate index does not hold certificates"
    EkFirmware = 1110 "ek-firmware" "the firmware of this TPM is on the list of those that are not certified"
    MessageSize = 1201 "message-size" "the message is larger than 256 KiB"
    MessageForm = 1202 "message-form" "the message is damaged, incomplete, or not encoded in its one canonical form"
    MessageVersion = 1203 "message-version" "this is another message than the one that is expected here, or of a version that is not known"
    StateForeign = 1301 "state-foreign" "the answer is not to a challenge of this authority, or the challenge was changed"
    ChallengeExpired = 1302 "challenge-expired" "the challenge is too old, or younger than now: begin again with the card's request, and check the clock"
    Secret = 1303 "secret" "the TPM with the endorsement key did not open the challenge"
    AnswerUsed = 1304 "answer-used" "the challenge was answered before, and is good for one certificate"
    AkSignature = 1311 "ak-signature" "the attestation key did not sign the statement about itself"
    AkMagic = 1312 "ak-magic" "the statement about the attestation key was not made by a TPM"
    AkType = 1313 "ak-type" "the statement about the attestation key is of another kind"
    AkNonce = 1314 "ak-nonce" "the statement about the attestation key answers another challenge"
    AkForm = 1315 "ak-form" "the statement about the attestation key is malformed"
    AkHierarchy = 1316 "ak-hierarchy" "the attestation key is not a child of this storage root key in the owner's hierarchy"
    AkName = 1317 "ak-name" "the statement is about another key than the attestation key, or the key is in another place of the TPM"
    WitnessMissing = 1321 "witness-missing" "the answer does not have the statements that the card's form needs"
    RequestMissing = 1401 "request-missing" "the certificate request does not prove what is asked for"
    RequestForm = 1402 "request-form" "the attestation attribute of the certificate request is malformed"
    RequestKey = 1403 "request-key" "the certificate request is for another key than the one that the TPM certified"
}

impl Code {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The first fault; nothing behind it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is.
    pub code: Code,
    /// Which of the bundle's keys it is about, counted from 0.
    pub key: Option<usize>,
    /// More about a certificate.
    pub path: Option<PathError>,
}

impl Refusal {
    pub(crate) const fn new(code: Code) -> Self {
        Self {
            code,
            key: None,
            path: None,
        }
    }

    pub(crate) const fn of_path(code: Code, path: PathError) -> Self {
        Self {
            code,
            key: None,
            path: Some(path),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.sentence())?;
        if let Some(key) = self.key {
            write!(f, " (key {})", key + 1)?;
        }
        if let Some(path) = &self.path {
            write!(f, ": {path}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_names_are_unique() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number(), "{pair:?}");
        }
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
