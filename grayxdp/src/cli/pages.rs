//! Completions, manual pages and schemas: what the binary says about itself.

use std::{fs, path::Path};

use clap::CommandFactory;

use crate::cli::{
    args::Arguments,
    exit::{CliError, Exit},
    output::write,
};

/// Prints a text with a line end.
pub(super) fn print(text: &str) -> Result<Exit, CliError> {
    write(&format!("{}\n", text.trim_end()))?;
    Ok(Exit::Done)
}

/// The completions of a shell.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "grayxdp", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// The main manual page, or all of them in a folder.
pub(super) fn manual(folder: Option<&Path>) -> Result<Exit, CliError> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command())
            .render(&mut page)
            .map_err(|cause| CliError::Failed(format!("the manual page cannot be made: {cause}")))?;
        return print(&String::from_utf8_lossy(&page));
    };
    let failed = |cause| CliError::Failed(format!("cannot write manual pages to {}: {cause}", folder.display()));
    fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(failed)?;
    Ok(Exit::Done)
}
