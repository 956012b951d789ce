//! Why the store fails.

use crate::validate::Claim;
use std::io;
use std::path::{Path, PathBuf};

use cardea_card::record::CardId;

use crate::format::CardFileError;

/// The state folder could not be used or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A record that cannot be stored, or a file that cannot be replaced or adopted.
    #[error("the card cannot be stored")]
    Card(#[from] CardFileError),
    /// The card file claims an index of another card of this host.
    #[error("the card file claims {claim}, which belongs to card {owner}")]
    Claimed {
        /// The index.
        claim: Claim,
        /// Whose it is.
        owner: CardId,
    },
    /// This host has a card with this id.
    #[error("card {0} already exists")]
    Exists(CardId),
    /// Another daemon has the folder.
    #[error("another daemon uses {}", .0.display())]
    InUse(PathBuf),
    /// An operation on a file or folder failed.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file or folder is not what it should be.
    #[error("{} is not usable: {what}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

pub(crate) fn failed<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}
