//! Chromium and Firefox as a person uses them: `docs/uses/browsers.md` at a screen, with the browser's own dialogs.
//!
//! Pictures of what the person sees are kept in `target/debug/uses-artefacts/`.

use std::fs;

use cardea_testkit::browser::{CHROMIUM, FIREFOX, Looks, Screen};
use cardea_testkit::rig::PIN;
use cardea_testkit::site::{NAME, Site, commands, page};
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::WRONG;

/// Title of the page that the site has for those without a certificate.
const NO_CERTIFICATE: &str = "No certificate";

/// A site, and a browser that knows the cards as the page tells; `settings` are those of the test.
fn site(algorithm: &str, section: &str, settings: (&str, &str)) -> Site {
    let site = Site::of_page(algorithm);
    site.does(&commands("browsers", section));
    let (file, text) = settings;
    fs::write(site.workplace.path("settings"), text).unwrap();
    site.does(&format!("cp settings {file}"));
    site
}

/// What a test wants of a browser besides.
#[derive(Clone, Copy)]
struct Case {
    looks: Looks,
    /// Its section of the page, and its name in the table.
    section: &'static str,
    settings: (&'static str, &'static str),
    /// What it calls itself to the server.
    agent: &'static str,
    /// Title of its warning of a site that nobody knows.
    warning: &'static str,
}

impl Case {
    fn site(&self, algorithm: &str) -> Site {
        site(algorithm, self.section, self.settings)
    }

    fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.looks.program)
    }

    /// Opens the site, takes the certificate and types the PIN, at first perhaps a wrong one.
    fn sign_in(&self, site: &Site, screen: &Screen<'_>, what: &str, wrong: bool) {
        let before = site.access_log().lines().count();
        let browser = screen.open(self.looks, &format!("https://{NAME}/"));
        browser.choose();
        if wrong {
            let _ = screen.picture(&self.name("pin"));
            let first = browser.type_pin(WRONG);
            let _ = browser.wait_pin_window(&first);
            assert_eq!(site.workplace.tries_left(), 4);
        }
        browser.type_pin(PIN);
        browser.wait_page("Welcome CN=Alice");
        browser.keep_page(&self.name(what));
        assert_eq!(site.workplace.tries_left(), 5);
        let log = site.access_log();
        let mut new = log.lines().skip(before);
        let seen = new.any(|line| line.contains("GET / ") && line.contains(self.agent));
        assert!(seen, "{log}");
    }

    /// Opens the site at a port, which ends in a page with that title, without a question.
    fn ends_in(&self, screen: &Screen<'_>, port: &str, title: &str, what: &str) {
        let browser = screen.open(self.looks, &format!("https://{NAME}{port}/"));
        browser.wait_page(title);
        browser.keep_page(&self.name(what));
    }

    fn try_out(&self) {
        let site = self.site("p-256");
        self.sign_in(&site, &Screen::on(&site), "p-256", false);
        let site = self.site("rsa-2048");
        let screen = Screen::on(&site);
        self.sign_in(&site, &screen, "rsa-2048", true);
        self.is_refused(&site, &screen);
    }

    fn is_refused(&self, site: &Site, screen: &Screen<'_>) {
        site.serve_others();
        site.serve_untrusted();
        let signatures = || {
            let audit = site.workplace.cardea(&["audit"]);
            audit
                .lines()
                .filter(|line| line.contains("key-used"))
                .count()
        };
        let before = signatures();
        self.ends_in(screen, ":9443", self.warning, "untrusted");
        self.ends_in(screen, ":8443", NO_CERTIFICATE, "other-authority");

        site.workplace.block();
        {
            let browser = screen.open(self.looks, &format!("https://{NAME}/"));
            browser.choose();
            browser.type_pin(PIN);
            browser.wait_page(NO_CERTIFICATE);
            browser.keep_page(&self.name("blocked"));
        }
        site.workplace.unblock();

        site.expire();
        self.ends_in(screen, "", NO_CERTIFICATE, "expired");
        site.workplace
            .cardea(&["card", "destroy", "Alice", "--yes"]);
        self.ends_in(screen, "", NO_CERTIFICATE, "no-card");
        assert_eq!(signatures(), before);

        let page = page("browsers");
        for words in [self.looks.pin_window, self.warning] {
            assert!(page.contains(&format!("\"{words}\"")), "{words}");
        }
    }

    fn shown(&self, package: &str) {
        Use {
            page: "browsers",
            title: "Signing in to a web site",
            program: self.section,
            package,
            interface: Interface::Pkcs11,
            keys: "RSA-2048, P-256",
        }
        .shown();
    }
}

#[test]
fn chromium_signs_in_to_a_site() {
    let case = Case {
        looks: CHROMIUM,
        section: "Chromium",
        // Root has no sandbox, and there is neither a graphics card nor a network.
        settings: (
            "/etc/chromium.d/test",
            "export CHROMIUM_FLAGS=\"$CHROMIUM_FLAGS --no-sandbox --test-type --disable-gpu --no-first-run \
             --password-store=basic --disable-background-networking --disable-component-update --disable-sync\"\n",
        ),
        agent: "Chrome/",
        warning: "Privacy error",
    };
    case.try_out();
    case.shown("chromium");
}

#[test]
fn firefox_signs_in_to_a_site() {
    let case = Case {
        looks: FIREFOX,
        section: "Firefox",
        // What it greets a new user with is no part of the matter.
        settings: (
            "/etc/firefox-esr/test.js",
            "pref(\"browser.aboutwelcome.enabled\", false);\n\
             pref(\"browser.shell.checkDefaultBrowser\", false);\n\
             pref(\"browser.startup.homepage_override.mstone\", \"ignore\");\n\
             pref(\"datareporting.policy.dataSubmissionPolicyBypassNotification\", true);\n\
             pref(\"termsofuse.bypassNotification\", true);\n",
        ),
        agent: "Firefox/",
        warning: "Warning: Security Risk",
    };
    case.try_out();
    case.shown("firefox-esr");
}
