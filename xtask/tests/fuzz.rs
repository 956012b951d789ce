//! The fuzz targets without a fuzzer: what was found once, what they begin with, and some noise.

use std::fs;
use std::path::{Path, PathBuf};

use cardea_fuzz::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

#[test]
fn every_input_that_once_failed_passes() {
    for folder in fs::read_dir(fuzz().join("regressions")).unwrap() {
        let folder = folder.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_str().unwrap();
        let target = TARGETS
            .iter()
            .find(|target| target.name == name)
            .unwrap_or_else(|| panic!("{name} is no target"));
        for file in fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            eprintln!("{}", path.display());
            (target.run)(&fs::read(&path).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_program_of_its_name() {
    for target in TARGETS {
        let program = fuzz()
            .join("targets")
            .join(target.name)
            .with_extension("rs");
        let text = fs::read_to_string(&program).unwrap();
        let expected = format!("cardea_fuzz::{}::TARGET.run", target.name);
        assert!(text.contains(&expected), "{}", program.display());
    }
}

#[test]
fn seeds_pass_and_none_comes_twice() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        for (number, seed) in seeds.iter().enumerate() {
            eprintln!("{} {number}", target.name);
            (target.run)(seed);
            assert!(!seeds[..number].contains(seed), "{} {number}", target.name);
        }
    }
}

/// A few changes to every seed: a target that fails here fails in the fuzzer's first second.
#[test]
fn seeds_with_a_few_changed_bytes_pass() {
    // Not random: a failure must come again.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(limit.max(1)).unwrap()).unwrap()
    };
    for target in TARGETS {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            for round in 0..8 {
                let mut input = seed.clone();
                for _ in 0..=next(4) {
                    let place = next(input.len());
                    match next(4) {
                        0 => input.truncate(place),
                        1 => input.insert(place, 0xFF),
                        2 => {
                            let word = target.words[next(target.words.len())];
                            input.splice(place..place, word.iter().copied());
                        }
                        _ => {
                            if let Some(byte) = input.get_mut(place) {
                                *byte = byte.wrapping_add(1 << next(8));
                            }
                        }
                    }
                }
                eprintln!("{} {number} {round}: {input:02X?}", target.name);
                (target.run)(&input);
            }
        }
    }
}
