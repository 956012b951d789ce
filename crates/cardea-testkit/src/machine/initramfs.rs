//! The archive that a kernel unpacks as its first file system: cpio in its “new ASCII” format
//! (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::process::run;

use super::read_file;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const SYMBOLIC_LINK: u32 = 0o120_777;

/// Files by path without a leading slash; in this order a folder comes before what is in it.
#[derive(Default)]
pub(super) struct Archive(BTreeMap<String, Entry>);

struct Entry {
    mode: u32,
    device: (u32, u32),
    content: Vec<u8>,
}

impl Archive {
    pub(super) fn folder(&mut self, path: &str) {
        self.put(path, FOLDER, (0, 0), Vec::new());
    }

    pub(super) fn file(&mut self, path: &str, content: Vec<u8>) {
        self.put(path, PROGRAM, (0, 0), content);
    }

    pub(super) fn symbolic_link(&mut self, path: &str, target: &str) {
        self.put(path, SYMBOLIC_LINK, (0, 0), target.into());
    }

    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) {
        self.put(path, CHARACTER_DEVICE, number, Vec::new());
    }

    /// A program, and the libraries that it loads, where the dynamic linker looks for them.
    pub(super) fn program(&mut self, path: &str, program: &Path) {
        let listed = run(Command::new("ldd").arg(program));
        assert!(listed.success, "{}: {}", program.display(), listed.text);
        for library in libraries(&listed.text) {
            self.file(library.trim_start_matches('/'), read_file(library.as_ref()));
        }
        self.file(path, read_file(program));
    }

    /// Its bytes.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, (path, entry)) in (1..).zip(&self.0) {
            append(&mut bytes, number, path, entry);
        }
        let trailer = Entry {
            mode: 0,
            device: (0, 0),
            content: Vec::new(),
        };
        append(&mut bytes, 0, "TRAILER!!!", &trailer);
        bytes
    }

    fn put(&mut self, path: &str, mode: u32, device: (u32, u32), content: Vec<u8>) {
        if let Some((folder, _)) = path.rsplit_once('/')
            && !self.0.contains_key(folder)
        {
            self.folder(folder);
        }
        self.0.insert(
            path.to_owned(),
            Entry {
                mode,
                device,
                content,
            },
        );
    }
}

fn append(bytes: &mut Vec<u8>, number: u32, path: &str, entry: &Entry) {
    let length = |length: usize| u32::try_from(length).expect("no file of 4 GiB");
    let fields = [
        number,
        entry.mode,
        0, // user
        0, // group
        1, // links
        0, // time
        length(entry.content.len()),
        0, // device that it is on
        0,
        entry.device.0,
        entry.device.1,
        length(path.len() + 1),
        0, // checksum, not in this variant
    ];
    bytes.extend_from_slice(b"070701");
    for field in fields {
        bytes.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    bytes.extend_from_slice(path.as_bytes());
    bytes.push(0);
    pad(bytes);
    bytes.extend_from_slice(&entry.content);
    pad(bytes);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Paths in what `ldd` prints: `name => /path (address)` or `/path (address)`.
fn libraries(listed: &str) -> impl Iterator<Item = &str> {
    listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn libraries_are_the_paths() {
        let listed =
            "\tlinux-vdso.so.1 (0x0)\n\tlibc.so.6 => /lib/libc.so.6 (0x0)\n\t/lib64/ld.so (0x0)\n";
        assert_eq!(
            libraries(listed).collect::<Vec<_>>(),
            ["/lib/libc.so.6", "/lib64/ld.so"]
        );
    }

    #[test]
    fn cpio_lists_and_reads_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let mut archive = Archive::default();
        archive.file("a/b/c", b"12345".into());
        archive.symbolic_link("a/link", "b/c");
        archive.file("a/d", Vec::new());
        let file = folder.path().join("archive");
        std::fs::write(&file, archive.finish()).unwrap();
        let extracted = Command::new("/bin/busybox")
            .args(["cpio", "-i", "-v"])
            .current_dir(folder.path())
            .stdin(Stdio::from(std::fs::File::open(&file).unwrap()))
            .output()
            .unwrap();
        assert!(extracted.status.success(), "{extracted:?}");
        let names = [&extracted.stdout[..], &extracted.stderr].concat();
        let names = String::from_utf8(names).unwrap();
        assert!(names.starts_with("a\na/b\na/b/c\na/d\na/link\n"), "{names}");
        assert_eq!(
            std::fs::read(folder.path().join("a/link")).unwrap(),
            b"12345"
        );
    }
}
