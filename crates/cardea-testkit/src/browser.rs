//! A browser at a screen, and a person who looks at it and types.
//!
//! What: Xvfb in the namespace of a [`Site`], windows by their names, keys by xdotool, pictures of the screen.
//! What not: a browser's own remote control, which sees none of its dialogs for PINs and certificates.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its fixtures too"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{self, PATIENCE, Running};
use crate::rig::bin_dir;
use crate::site::{DISPLAY, Site};

/// Size of the screen.
const SIZE: &str = "1280x900x24";

/// A point of the page, low in the window, where the pages of the tests have nothing.
const LOW: (u32, u32) = (100, 780);

/// Where a page has its words.
const WORDS: &str = "1000x640+15+90";

/// Looks at the screen until a condition comes true: now and then, as each look costs several processes.
fn watch(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "{what} is not seen in {PATIENCE:?}"
        );
        std::thread::sleep(GLANCE);
    }
}

/// Time between two looks at the screen.
const GLANCE: Duration = Duration::from_millis(100);

/// What a test must know of a browser's looks.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// What it is started with.
    pub program: &'static str,
    /// Name of the window that asks for the PIN.
    pub pin_window: &'static str,
    /// Folders of its state below the home folder.
    pub state: &'static [&'static str],
}

/// Chromium.
pub const CHROMIUM: Looks = Looks {
    program: "chromium",
    pin_window: "Unlock Security Device",
    state: &[".config/chromium", ".cache/chromium"],
};

/// Firefox.
pub const FIREFOX: Looks = Looks {
    program: "firefox-esr",
    pin_window: "Password Required",
    state: &[".mozilla", ".config/mozilla", ".cache/mozilla"],
};

/// The screen of a site's user.
pub struct Screen<'a> {
    site: &'a Site,
    _server: Running,
}

impl<'a> Screen<'a> {
    /// Turns it on.
    #[must_use]
    pub fn on(site: &'a Site) -> Self {
        let mut command = site.command("Xvfb");
        command.args([DISPLAY, "-nolock", "-nolisten", "tcp", "-screen", "0", SIZE]);
        let mut server = Running::start(&mut command, &site.workplace.path("xvfb.log"));
        server.wait_ready(|_| process::run(site.command("xwininfo").arg("-root")).success);
        Self {
            site,
            _server: server,
        }
    }

    /// Opens an address in a browser that has never been used.
    #[must_use]
    pub fn open(&self, looks: Looks, address: &str) -> Browser<'_> {
        for folder in looks.state {
            let folder = self.site.workplace.path(folder);
            if folder.exists() {
                fs::remove_dir_all(folder).unwrap();
            }
        }
        let mut command = self.site.command(looks.program);
        let log = self.site.workplace.path(&format!("{}.log", looks.program));
        let process = Running::start(command.arg(address), &log);
        Browser {
            screen: self,
            looks,
            process,
        }
    }

    /// The windows, the topmost first.
    fn windows(&self) -> Vec<Window> {
        let listed = process::run(self.site.command("xwininfo").args(["-root", "-tree"]));
        let windows = listed.text.lines().filter_map(|line| {
            let (identifier, rest) = line.trim().split_once(" \"")?;
            let (name, rest) = rest.split_once("\": (")?;
            // The last two words: its size and place in its parent, its place on the screen.
            let mut words = rest.split_ascii_whitespace().rev();
            let place = words.next()?;
            let (size, _) = words.next()?.split_once('+')?;
            Some(Window {
                identifier: identifier.to_owned(),
                name: name.to_owned(),
                part: format!("{size}{place}"),
            })
        });
        windows.collect()
    }

    /// What ImageMagick tells of a part of the screen.
    fn look(&self, part: &str, what: &str) -> String {
        let mut command = self.site.command("sh");
        let script =
            "import -window root xwd:- | convert xwd:- -crop \"$1\" +repage -format \"$2\" info:";
        process::run(command.args(["-c", script, "sh", part, what])).text
    }

    fn key(&self, key: &str) {
        assert!(process::run(self.site.command("xdotool").args(["key", key])).success);
    }

    fn types(&self, text: &str) {
        let mut command = self.site.command("xdotool");
        assert!(process::run(command.args(["type", "--delay", "20", text])).success);
    }

    /// Whether a dialog within the window has put a shade of grey over the page.
    fn shaded(&self) -> bool {
        let part = format!("1x1+{}+{}", LOW.0, LOW.1);
        let colour = self.look(&part, "%[fx:int(255*r)] %[fx:int(255*g)] %[fx:int(255*b)]");
        let parts: Vec<u32> = colour
            .split(' ')
            .filter_map(|part| part.parse().ok())
            .collect();
        match parts.as_slice() {
            // Firefox has a trace of blue in it.
            [red, green, blue] => {
                red == green && blue.abs_diff(*red) < 4 && (0x50..0x90).contains(red)
            }
            _ => false,
        }
    }

    /// Keeps a picture of the screen with the artefacts of the tests, and gives its path.
    #[must_use]
    pub fn picture(&self, name: &str) -> PathBuf {
        let folder = bin_dir().join("uses-artefacts");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name).with_extension("png");
        let mut command = self.site.command("import");
        let taken = process::run(command.args(["-window", "root"]).arg(&path));
        assert!(taken.success, "{}", taken.text);
        path
    }
}

/// A window.
struct Window {
    identifier: String,
    name: String,
    /// Where it is, as ImageMagick writes it.
    part: String,
}

/// A browser; dropping it ends it.
pub struct Browser<'a> {
    screen: &'a Screen<'a>,
    looks: Looks,
    process: Running,
}

impl Browser<'_> {
    /// The window that asks for the PIN, when it is there for the keyboard.
    fn pin_window(&self) -> Option<Window> {
        let windows = self.screen.windows();
        let mut windows = windows.into_iter();
        let window = windows.find(|window| window.name.starts_with(self.looks.pin_window))?;
        let xdotool = |arguments: &[&str]| {
            process::run(self.screen.site.command("xdotool").args(arguments)).text
        };
        // Where no window manager gives it to a window, the one below the pointer has the keyboard.
        xdotool(&["mousemove", "--window", &window.identifier, "20", "20"]);
        let focus = xdotool(&["getwindowfocus", "getwindowname"]);
        let has_it =
            focus.starts_with(self.looks.pin_window) || focus.contains("focused window of 1");
        (has_it && self.is_drawn(&window)).then_some(window)
    }

    /// Whether a window shows something, and the same for a moment.
    fn is_drawn(&self, window: &Window) -> bool {
        let look = || self.screen.look(&window.part, "%k %#");
        let seen = look();
        let colours = seen.split(' ').next().and_then(|count| count.parse().ok());
        colours.is_some_and(|count: u32| count > 20) && look() == seen
    }

    /// Takes the certificate that the browser proposes, and waits for the question for the PIN.
    ///
    /// A dialog takes no key in its first moment, so that nobody consents by mistake: then the person presses again.
    pub fn choose(&self) {
        watch("the question which certificate to send", || {
            self.screen.shaded()
        });
        watch("the question for the PIN", || {
            if self.screen.shaded() {
                self.screen.key("Return");
            }
            self.asks_within(20)
        });
    }

    /// Whether it asks for the PIN before it has been looked at that often.
    fn asks_within(&self, looks: usize) -> bool {
        (0..looks).any(|_| {
            std::thread::sleep(GLANCE);
            self.pin_window().is_some()
        })
    }

    /// Types a PIN where it is asked for, and gives the window in which it was.
    pub fn type_pin(&self, pin: &str) -> String {
        let window = self.wait_pin_window("");
        self.screen.types(pin);
        self.screen.key("Return");
        window
    }

    /// Waits for a question for the PIN in another window than that.
    #[must_use]
    pub fn wait_pin_window(&self, before: &str) -> String {
        let mut found = None;
        watch("the question for the PIN", || {
            found = self.pin_window();
            found
                .as_ref()
                .is_some_and(|window| window.identifier != before)
        });
        found.unwrap().identifier
    }

    /// Waits for a page by its title.
    pub fn wait_page(&self, title: &str) {
        watch(&format!("the page {title:?}"), || {
            let mut windows = self.screen.windows().into_iter();
            windows.any(|window| window.name.starts_with(title))
        });
    }

    /// Waits until the words of a page are on the screen, not only its title in the window, and keeps a picture.
    pub fn keep_page(&self, name: &str) {
        watch("the words of the page", || {
            let darkest = self.screen.look(WORDS, "%[fx:minima]");
            darkest
                .trim()
                .parse::<f64>()
                .is_ok_and(|darkest| darkest < 0.2)
        });
        let picture = self.screen.picture(name);
        let mut command = Command::new("identify");
        let size = process::run(command.args(["-format", "%m %w %h"]).arg(picture));
        assert_eq!(size.text, "PNG 1280 900");
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("see {}", self.screen.picture("failed").display());
        }
        // Its other processes end with it; the next browser wants an empty screen.
        let _ = self.process.terminate();
        watch("an empty screen", || self.screen.windows().is_empty());
    }
}
