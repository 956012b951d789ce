//! Who is at the other end of a socket connection: the kernel says it (`SO_PEERCRED`, unix(7)).

use std::os::fd::AsFd;

use cardea_host::Actor;

/// User id of the process that connected.
pub(crate) fn uid(stream: impl AsFd) -> rustix::io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw())
}

/// Who is there, for the audit. The program is the one that runs now, which may have come after the one that
/// connected; the process may be gone.
pub(crate) fn actor(stream: impl AsFd, uid: u32) -> Actor {
    let credentials = rustix::net::sockopt::socket_peercred(stream).ok();
    let pid = credentials.map_or(0, |credentials| credentials.pid.as_raw_nonzero().get());
    let pid = u32::try_from(pid).unwrap_or_default();
    Actor::of_process(uid, pid)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn kernel_tells_our_own_uid() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(uid(&one).unwrap(), rustix::process::getuid().as_raw());
    }
}
