//! Secrets, and where they are found.

use std::collections::HashSet;

/// So many bytes in a row are no accident.
const WINDOW: usize = 12;

/// What must not be found anywhere.
#[derive(Default)]
pub(crate) struct Needles {
    secrets: Vec<(String, Vec<u8>)>,
    starts: HashSet<[u8; 4]>,
}

impl Needles {
    /// Any piece of it counts.
    pub(crate) fn add(&mut self, name: impl Into<String>, secret: &[u8]) {
        assert!(secret.len() >= WINDOW, "too short to be told from noise");
        for window in secret.windows(WINDOW) {
            self.starts.insert(window[..4].try_into().unwrap());
        }
        self.secrets.push((name.into(), secret.to_vec()));
    }

    /// Names of the secrets in these bytes, with the places of their pieces.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Vec<(&str, usize)> {
        let mut found: Vec<(&str, usize)> = Vec::new();
        for (at, window) in bytes.windows(WINDOW).enumerate() {
            // Most of any memory is zeros.
            if window[0] == 0 && window[1] == 0 {
                continue;
            }
            let start: &[u8; 4] = window.first_chunk().unwrap();
            if !self.starts.contains(start) {
                continue;
            }
            for (name, secret) in &self.secrets {
                let known = found
                    .iter()
                    .any(|(other, place)| other == name && at - place < secret.len());
                if !known && secret.windows(WINDOW).any(|piece| piece == window) {
                    found.push((name, at));
                }
            }
        }
        found
    }
}

#[test]
fn a_piece_of_a_secret_is_found_and_noise_is_not() {
    let mut needles = Needles::default();
    needles.add("one", b"0123456789abcdef");
    assert_eq!(needles.found_in(b"....56789abcdef0....."), []);
    assert_eq!(needles.found_in(b"..3456789abcdef"), [("one", 2)]);
    assert_eq!(needles.found_in(b"0123456789abcdef"), [("one", 0)]);
}
