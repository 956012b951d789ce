//! The templates that SELECT returns (GIDS 2.0; ISO 7816-4 §7.4), EF.ATR and EF.DIR.

use cardea_iso7816::tlv;

use super::AID;
use crate::record::{FileRecord, GidsRecord};

/// Rules of the DF: user or admin creates and deletes elementary files (Microsoft's profile).
pub(super) const DF_RULES: [u8; 3] = [0x03, 0x30, 0x30];

/// File control information of the DF, template `61`: application identifier and authentication
/// protocols (`C0`: mutual and external). OpenSC tells the version from the identifier.
pub(super) fn fci() -> Vec<u8> {
    tlv::build(0x61, |out| {
        tlv::write(out, 0x4F, AID);
        tlv::write(out, 0x73, &[0x40, 0x01, 0xC0]);
    })
}

/// File control parameters of the DF, template `62`.
pub(super) fn fcp_of_df(record: &GidsRecord) -> Vec<u8> {
    tlv::build(0x62, |out| {
        tlv::write(out, 0x82, &[0x38]);
        tlv::write(out, 0x84, AID);
        tlv::write(out, 0x8A, &[record.life_cycle]);
        tlv::write(out, 0x8C, &DF_RULES);
    })
}

/// File control parameters of an elementary file, template `62`.
pub(super) fn fcp_of_file(file: &FileRecord) -> Vec<u8> {
    tlv::build(0x62, |out| {
        tlv::write(out, 0x82, &[file.descriptor]);
        tlv::write(out, 0x83, &file.id.to_be_bytes());
        tlv::write(out, 0x8A, &[file.life_cycle]);
        if !file.access.is_empty() {
            tlv::write(out, 0x8C, &file.access);
        }
        if !file.templates.is_empty() {
            tlv::write(out, 0xA5, &file.templates);
        }
    })
}

/// File management data of the DF, template `64`: only an application PIN, and the mandatory filler.
pub(super) fn fmd_of_df() -> Vec<u8> {
    tlv::build(0x64, |out| {
        tlv::write(out, 0x5F2F, &[0x40]);
        tlv::write(out, 0x7F65, &[0x80, 0x00]);
    })
}

/// File management data of an elementary file: none.
pub(super) fn fmd_of_file() -> Vec<u8> {
    tlv::build(0x64, |_| {})
}

/// Data objects of EF.ATR: selection by full and partial name, DOs in EF.DIR and EF.ATR; command
/// chaining, no extended length; manufacturer.
pub(super) fn ef_atr() -> Vec<(u32, Vec<u8>)> {
    vec![
        (0x43, vec![0xF4]),
        (0x47, vec![0x08, 0x01, 0x80]),
        (0x46, b"Cardea".to_vec()),
    ]
}

/// Data objects of EF.DIR: the one application.
pub(super) fn ef_dir() -> Vec<(u32, Vec<u8>)> {
    let mut value = Vec::new();
    tlv::write(&mut value, 0x4F, AID);
    tlv::write(&mut value, 0x73, &[0x40, 0x01, 0xC0]);
    vec![(0x61, value)]
}
