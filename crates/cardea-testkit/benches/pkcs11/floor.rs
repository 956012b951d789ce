//! The bare TPM: two loaded keys, and their signing commands.

use std::path::Path;
use std::time::Duration;

use cardea_testkit::swtpm::Swtpm;
use cardea_tpm::Service;

/// A software TPM without anything between it and its commands.
pub(crate) struct Floor {
    service: Service,
    rsa: Vec<u8>,
    ec: Vec<u8>,
    _tpm: Swtpm,
}

const RSA: &[u8] = &[
    0, 1, 0, 0x0B, 0, 6, 0x04, 0x72, 0, 0, 0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0,
];
const EC: &[u8] = &[
    0, 0x23, 0, 0x0B, 0, 6, 0x04, 0x72, 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0,
];

const PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];

impl Floor {
    pub(crate) fn start(folder: &Path) -> Self {
        let tpm = Swtpm::start(folder);
        let service = Service::start(&tpm.address().parse().unwrap()).unwrap();
        let rsa = signing(&service, RSA, [0, 0x14]);
        let ec = signing(&service, EC, [0, 0x18]);
        Self {
            service,
            rsa,
            ec,
            _tpm: tpm,
        }
    }

    /// One signature of a digest of 32 bytes.
    pub(crate) fn sign(&self, label: &str) -> Duration {
        let command = if label == "rsa" { &self.rsa } else { &self.ec };
        raw(&self.service, command).1
    }
}

/// Makes a primary key and gives the command that signs with it.
fn signing(service: &Service, template: &[u8], scheme: [u8; 2]) -> Vec<u8> {
    let mut parameters = vec![0, 4, 0, 0, 0, 0];
    parameters.extend_from_slice(&(template.len() as u16).to_be_bytes());
    parameters.extend_from_slice(template);
    parameters.extend_from_slice(&[0; 6]);
    let (response, _) = raw(service, &command(0x131, 0x4000_0001, &parameters));
    let handle = u32::from_be_bytes(response[10..14].try_into().unwrap());
    let mut parameters = vec![0, 32];
    parameters.extend_from_slice(&[0x5A; 32]);
    parameters.extend_from_slice(&scheme);
    parameters.extend_from_slice(&[0, 0x0B]);
    parameters.extend_from_slice(&[0x80, 0x24, 0x40, 0, 0, 7, 0, 0]);
    command(0x15D, handle, &parameters)
}

fn command(code: u32, handle: u32, parameters: &[u8]) -> Vec<u8> {
    let mut command = vec![0x80, 0x02, 0, 0, 0, 0];
    command.extend_from_slice(&code.to_be_bytes());
    command.extend_from_slice(&handle.to_be_bytes());
    command.extend_from_slice(&PASSWORD);
    command.extend_from_slice(parameters);
    let length = (command.len() as u32).to_be_bytes();
    command[2..6].copy_from_slice(&length);
    command
}

fn raw(service: &Service, command: &[u8]) -> (Vec<u8>, Duration) {
    let (response, time) = service.raw(command.to_vec()).unwrap();
    assert_eq!(response[6..10], [0; 4], "the raw command fails");
    (response, time)
}
