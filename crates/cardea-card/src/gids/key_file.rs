//! The files of keys that the product itself makes.

use cardea_iso7816::tlv;

use super::files::KEY_DESCRIPTOR;
use super::life_cycle::{ACTIVATED, OPERATIONAL_LATE};
use super::mechanism::Template;
use super::reference::KeyReference;
use crate::engine::KeyUsage;
use crate::record::FileRecord;
use crate::token::{KeyAlgorithm, KeyClass};

/// The file of a key that the product itself makes, activated: rules and templates are those of the clients.
pub(crate) fn new_key_file(
    reference: KeyReference,
    algorithm: KeyAlgorithm,
    usage: KeyUsage,
    class: KeyClass,
) -> FileRecord {
    let (size, mechanisms): (u8, &[(u32, u8)]) = match (algorithm, usage) {
        (KeyAlgorithm::P256, _) => (0x0C, &[(0xB6, 0x10)]),
        (KeyAlgorithm::P384, _) => (0x0D, &[(0xB6, 0x10)]),
        (rsa, usage) => (
            if rsa == KeyAlgorithm::Rsa3072 {
                0x08
            } else {
                0x07
            },
            match usage {
                KeyUsage::Exchange => &[
                    (0xB8, 0x00),
                    (0xB8, 0x80),
                    (0xB8, 0x40),
                    (0xB6, 0x10),
                    (0xB6, 0x50),
                ],
                KeyUsage::Signature => &[(0xB6, 0x10), (0xB6, 0x50)],
            },
        ),
    };
    let mut templates = Vec::new();
    for (tag, padding) in mechanisms {
        let template = tlv::build(*tag, |out| {
            tlv::write(out, 0x80, &[padding | size]);
            tlv::write(out, 0x83, &[reference.byte()]);
            tlv::write(out, 0x95, &[Template::COMPUTE]);
            if class == KeyClass::Always {
                tlv::write(out, 0xA3, &[0x90, 0x02, 0x00, 0x01]);
            }
        });
        templates.extend(template);
    }
    FileRecord {
        id: reference.file_id(),
        descriptor: KEY_DESCRIPTOR,
        life_cycle: OPERATIONAL_LATE | ACTIVATED,
        access: vec![0x8F, 0x10, 0x10, 0x10, 0x00],
        templates,
        objects: Vec::new(),
    }
}
