//! `cargo xtask install` and `cargo xtask uninstall`.
//!
//! The one list of what goes where is in [`items`], which packages are made from too ([`crate::dist`]).

pub(crate) mod items;
mod manual;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::items::{Item, Kind, Layout, Package, Prefix, Texts};
use crate::shell::{self, Workspace, say};
use crate::weakened;

#[derive(Debug, Args)]
pub(crate) struct InstallArguments {
    #[command(flatten)]
    place: Place,
    /// Folder with the built programs; without it they are built for release
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    built: Option<PathBuf>,
    /// Also the service that makes cards for other machines; it stays off until its socket is enabled
    #[arg(long)]
    remote_cards: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UninstallArguments {
    #[command(flatten)]
    place: Place,
    /// Also remove the cards and the configuration
    #[arg(long)]
    purge: bool,
    /// With --purge: even if the cards' objects stay in the TPM
    #[arg(long, requires = "purge")]
    yes: bool,
}

#[derive(Debug, Args)]
struct Place {
    /// Folder that stands for the root of the file system; nothing outside is touched
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    destdir: Option<PathBuf>,
    /// Where programs and libraries go; configuration goes to /etc whatever this is
    #[arg(long, value_name = "DIR", default_value = "/usr")]
    prefix: Prefix,
}

/// The packages that are built for an installation.
pub(crate) const PACKAGES: [&str; 6] = [
    "cardea-agent",
    "cardea-cli",
    "cardea-daemon",
    "cardea-ifd",
    "cardea-pkcs11",
    REMOTE_CARDS,
];

/// The one that is for some machines only.
const REMOTE_CARDS: &str = "cardea-tpmvsc";

/// Name of the service.
const SERVICE: &str = "cardea.service";

/// Those of the service for other machines.
const REMOTE_SOCKET: &str = "cardea-tpmvsc.socket";
const REMOTE_SERVICE: &str = "cardea-tpmvsc.service";

/// The daemon's state, unless its configuration says otherwise.
const STATE: &str = "/var/lib/cardea";

pub(crate) fn install(arguments: &InstallArguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let place = &arguments.place;
    place.check_rights()?;
    let programs = match &arguments.built {
        Some(folder) => folder.clone(),
        None => release(&workspace, arguments.remote_cards)?,
    };
    let layout = Layout::local(place.prefix.clone());
    let texts = texts(&programs.join("cardea"), &layout)?;
    let mut items = items::items(&workspace.root, &programs, &layout, texts);
    items.retain(|item| arguments.remote_cards || item.package != Package::Tpmvsc);
    if place.destdir.is_some() {
        let summary = put(&items, place.root())?;
        summary.say("installed", place.root());
        return Ok(());
    }
    // The users first: the bus looks them up when it reads its policy, which it does by itself when the file comes.
    let users = [items::SYSUSERS, items::REMOTE_SYSUSERS].map(|path| place.prefix.join(path));
    let folders = [items::TMPFILES, items::REMOTE_TMPFILES].map(|path| place.prefix.join(path));
    let (first, rest): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| users.contains(&item.to));
    let mut summary = put(&first, place.root())?;
    for item in &first {
        make("systemd-sysusers", &[], &item.to)?;
    }
    summary.add(put(&rest, place.root())?);
    for item in rest.iter().filter(|item| folders.contains(&item.to)) {
        make("systemd-tmpfiles", &["--create"], &item.to)?;
    }
    if systemd_runs() {
        shell::run(Command::new("systemctl").arg("daemon-reload"))?;
        // A bus that had read the policy before the users were there would refuse the daemon.
        shell::run(Command::new("systemctl").args(["try-reload-or-restart", "dbus.service"]))?;
    }
    summary.say("installed", place.root());
    say("next: systemctl enable --now cardea; systemctl restart pcscd");
    Ok(())
}

/// Has a program of systemd make what a file describes.
fn make(program: &str, arguments: &[&str], file: &Path) -> Result<()> {
    let Some(found) = shell::find(program) else {
        say(&format!(
            "{program} is missing: make what {} describes by hand",
            file.display()
        ));
        return Ok(());
    };
    shell::run(Command::new(found).args(arguments).arg(file))
}

/// Builds what is installed, and says where it is.
fn release(workspace: &Workspace, remote_cards: bool) -> Result<PathBuf> {
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--locked"]);
    let wanted = |package: &&str| remote_cards || *package != REMOTE_CARDS;
    for package in PACKAGES.into_iter().filter(wanted) {
        build.args(["--package", package]);
    }
    shell::run(&mut build)?;
    Ok(workspace.target.join("release"))
}

pub(crate) fn uninstall(arguments: &UninstallArguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let place = &arguments.place;
    place.check_rights()?;
    let state = state_folder(place.root())?;
    let daemon = items::below(place.root(), &place.prefix.join("sbin/cardea-daemon"));
    if cards_remain(&daemon, &state) && arguments.purge && !arguments.yes {
        bail!(
            "without the card files nothing could identify what remains in the TPM: \
             destroy the cards first (cardea card destroy ID, which cannot be undone), or give --yes"
        );
    }
    if place.destdir.is_none() && systemd_runs() {
        if place.prefix.join(items::REMOTE_SOCKET).exists() {
            shell::run(Command::new("systemctl").args(["disable", "--now", REMOTE_SOCKET]))?;
            shell::run(Command::new("systemctl").args(["stop", REMOTE_SERVICE]))?;
        }
        if place.prefix.join(items::SERVICE).exists() {
            shell::run(Command::new("systemctl").args(["disable", "--now", SERVICE]))?;
        }
    }
    // The reader's entry is compared with what the installed program would write now.
    let program = items::below(place.root(), &place.prefix.join("bin/cardea"));
    let layout = Layout::local(place.prefix.clone());
    let mut texts = texts(&program, &layout).unwrap_or_default();
    // A program that does not run any more tells no names.
    texts.manual = installed_pages(&items::below(
        place.root(),
        &place.prefix.join(items::MANUAL),
    ));
    let items = items::items(&workspace.root, Path::new(""), &layout, texts);
    let summary = take(&items, place.root(), arguments.purge)?;
    summary.say("removed", place.root());
    if arguments.purge {
        match fs::remove_dir_all(&state) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| state.display().to_string());
            }
            _ => say(&format!("removed {}", state.display())),
        }
    } else if state.exists() {
        say(&format!("kept the cards in {}", state.display()));
    }
    if place.destdir.is_none() {
        if systemd_runs() {
            shell::run(Command::new("systemctl").arg("daemon-reload"))?;
        }
        say(
            "the users of the services and the group cardea-admin stay; next: systemctl restart pcscd",
        );
    }
    Ok(())
}

/// Has the installed program name what stays in the TPM. Whether there is anything.
fn cards_remain(daemon: &Path, state: &Path) -> bool {
    let asked = Command::new(daemon)
        .args(["--remains", "--config", "/dev/null", "--state-dir"])
        .arg(state)
        .status();
    match asked.ok().and_then(|status| status.code()) {
        Some(0) => false,
        Some(3) => true,
        _ => {
            say(&format!(
                "{} cannot be asked what remains in the TPM",
                daemon.display()
            ));
            ["cards", "intents"].iter().any(|folder| {
                let entries = fs::read_dir(state.join(folder));
                entries.is_ok_and(|mut entries| entries.next().is_some())
            })
        }
    }
}

/// Installs into a folder and removes everything again: programs must start, and nothing may stay.
pub(crate) fn rehearse(workspace: &Workspace) -> Result<()> {
    let root = workspace.target.join("installation");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
    }
    let place = || -> Result<Place> {
        Ok(Place {
            destdir: Some(root.clone()),
            prefix: "/usr".parse().map_err(anyhow::Error::msg)?,
        })
    };
    // With the programs of the tests: another build takes a minute and shows no more of the installation.
    workspace.build_tests()?;
    install(&InstallArguments {
        place: place()?,
        built: Some(workspace.target.join("debug")),
        remote_cards: true,
    })?;
    for program in [
        "/usr/bin/cardea",
        "/usr/sbin/cardea-daemon",
        "/usr/sbin/cardea-tpmvsc",
    ] {
        shell::run(Command::new(items::below(&root, Path::new(program))).arg("--version"))?;
    }
    let module = Layout::local(place()?.prefix).module();
    // Its exit status is 1 where there is no card.
    let loaded = Command::new("pkcs11-tool")
        .args(["--show-info", "--module"])
        .arg(items::below(&root, &module))
        .env("CARDEA_SOCKET", root.join("nothing"))
        .output()
        .context("pkcs11-tool")?;
    let said = String::from_utf8_lossy(&loaded.stdout);
    ensure!(
        said.contains("Manufacturer     Cardea"),
        "the installed module cannot be loaded: {said}"
    );
    let files = shell::output(Command::new("find").arg(&root).args(["-type", "f"]))?;
    files
        .lines()
        .try_for_each(|file| weakened::is_without(Path::new(file)))?;
    uninstall(&UninstallArguments {
        place: place()?,
        purge: false,
        yes: false,
    })?;
    let left = shell::output(Command::new("find").arg(&root).args(["-type", "f"]))?;
    ensure!(left.is_empty(), "files stayed after removal: {left}");
    Ok(())
}

impl Place {
    fn root(&self) -> &Path {
        self.destdir.as_deref().unwrap_or(Path::new("/"))
    }

    fn check_rights(&self) -> Result<()> {
        let root = fs::metadata("/proc/self").is_ok_and(|process| {
            use std::os::unix::fs::MetadataExt;
            process.uid() == 0
        });
        ensure!(
            root || self.destdir.is_some(),
            "only root can do this to the machine; or give --destdir"
        );
        Ok(())
    }
}

pub(crate) fn absolute(text: &str) -> Result<PathBuf> {
    ensure!(!text.is_empty(), "the path is empty");
    Ok(std::path::absolute(text)?)
}

/// What the command writes for this installation.
pub(crate) fn texts(program: &Path, layout: &Layout) -> Result<Texts> {
    let mut texts = Texts {
        reader: reader_entry(program, layout)?,
        ..Texts::default()
    };
    for (script, (shell, _)) in texts.completions.iter_mut().zip(items::COMPLETIONS) {
        *script = shell::output(Command::new(program).args(["completions", shell]))?;
    }
    texts.manual = manual(program)?;
    Ok(texts)
}

/// The manual's pages that are in a folder, without their contents.
fn installed_pages(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ours = |name: &String| {
        let page = name.strip_suffix(".1").unwrap_or_default();
        // The agent's page is shipped, and in the table whatever is installed.
        let command = page == "cardea" || page.starts_with("cardea-");
        (command && page != "cardea-agent") || page == "tpmvscmgr"
    };
    names
        .filter(ours)
        .map(|name| (name, String::new()))
        .collect()
}

/// The pages that the command writes, in order of their names.
fn manual(program: &Path) -> Result<Vec<(String, String)>> {
    let folder = std::env::temp_dir().join(format!("cardea-manual-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    let written = shell::output(Command::new(program).args(["manual", "--out"]).arg(&folder));
    let read = || -> Result<Vec<(String, String)>> {
        let mut pages = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            pages.push((name, fs::read_to_string(entry.path())?));
        }
        pages.sort();
        Ok(pages)
    };
    let pages = written.and_then(|_| read());
    fs::remove_dir_all(&folder)?;
    pages
}

/// What pcscd's entry says, from the program that knows.
fn reader_entry(program: &Path, layout: &Layout) -> Result<String> {
    shell::output(
        Command::new(program)
            .args(["reader-conf", "--slots", "4", "--library"])
            .arg(layout.handler())
            .env_remove("CARDEA_SOCKET"),
    )
}

/// What was done to how many files.
#[derive(Debug, Default)]
struct Summary {
    done: usize,
    kept: Vec<PathBuf>,
}

impl Summary {
    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.kept.extend(other.kept);
    }

    fn say(&self, done: &str, root: &Path) {
        let Self { done: count, kept } = self;
        say(&format!("{done} {count} files below {}", root.display()));
        for path in kept {
            say(&format!("kept {}, which was changed", path.display()));
        }
    }
}

/// Puts every item in place, each in one step: a program that runs keeps the file it was started from.
fn put(items: &[Item], root: &Path) -> Result<Summary> {
    let mut summary = Summary::default();
    let [reader, hidden] = readers(root);
    if hidden.exists() && !reader.exists() {
        fs::rename(&hidden, &reader).with_context(|| hidden.display().to_string())?;
    }
    for item in items {
        let to = items::below(root, &item.to);
        let content = item.content()?;
        if item.kind == Kind::Configuration && fs::read(&to).is_ok_and(|old| old != content) {
            summary.kept.push(to);
            continue;
        }
        write(&to, &content, item.mode).with_context(|| to.display().to_string())?;
        summary.done += 1;
    }
    Ok(summary)
}

pub(crate) fn write(to: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = to.with_file_name(name);
    fs::write(&new, content)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    fs::rename(&new, to)
}

/// pcscd's entry for the reader, and where a removal keeps it.
fn readers(root: &Path) -> [PathBuf; 2] {
    [items::READER, items::HIDDEN_READER].map(|path| items::below(root, Path::new(path)))
}

/// Removes every item, and the folders that only we have.
fn take(items: &[Item], root: &Path, purge: bool) -> Result<Summary> {
    let mut summary = Summary::default();
    let [reader, hidden] = readers(root);
    if purge && hidden.exists() {
        fs::remove_file(&hidden).with_context(|| hidden.display().to_string())?;
    }
    for item in items {
        let from = items::below(root, &item.to);
        let changed = || -> Result<bool> {
            Ok(item.kind == Kind::Configuration && fs::read(&from)? != item.content()?)
        };
        if !from.exists() {
            continue;
        }
        if !purge && changed()? {
            if from == reader {
                fs::rename(&reader, &hidden).with_context(|| reader.display().to_string())?;
                summary.kept.push(hidden.clone());
            } else {
                summary.kept.push(from);
            }
            continue;
        }
        fs::remove_file(&from).with_context(|| from.display().to_string())?;
        summary.done += 1;
    }
    let secrets = items::below(root, Path::new(items::REMOTE_SECRETS));
    if purge && secrets.exists() {
        fs::remove_dir_all(&secrets).with_context(|| secrets.display().to_string())?;
    }
    // Not empty, or not there: both are fine.
    let _ = fs::remove_dir(secrets);
    let _ = fs::remove_dir(items::below(root, Path::new("/etc/cardea")));
    Ok(summary)
}

/// The daemon's state folder, as its configuration has it.
fn state_folder(root: &Path) -> Result<PathBuf> {
    let path = items::below(root, Path::new(items::CONFIGURATION));
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.with_context(|| path.display().to_string())?,
    };
    let table: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    let folder = table
        .get("state_dir")
        .and_then(toml::Value::as_str)
        .unwrap_or(STATE);
    Ok(items::below(root, Path::new(folder)))
}

fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
mod tests;
