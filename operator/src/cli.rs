//! The command line.

use std::io::{self, Write};

use clap::{Parser, Subcommand};
use thiserror::Error;

use crate::crd::{self, DefinitionError};

/// Turns ShardClusters into the pods that serve them.
#[derive(Clone, Debug, Parser)]
#[command(name = "operator", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Print the definition of ShardCluster: operator crd | kubectl apply --server-side -f -
    Crd,
}

/// Why the program ends before it is told to.
#[derive(Debug, Error)]
pub enum CliError {
    /// There is no definition.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// Nobody reads it.
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// See [`CliError`].
    pub fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Crd => io::stdout().write_all(crd::yaml()?.as_bytes()).map_err(CliError::Write),
        }
    }
}
