//! Runs the packet tests on other kernels: Debian's, in virtual machines without hardware support.

mod archive;
mod guest;
mod image;
mod kernels;
mod programs;
mod report;

use std::{fs, path::PathBuf};

pub(crate) use self::kernels::{Kernels, Series};
use self::{kernels::Kernel, report::Row};
use crate::{
    Purpose,
    run::{stage, target},
    setup,
    test::Counts,
};

/// Where everything about virtual machines lies.
fn folder() -> PathBuf {
    target().join("vm")
}

/// Runs the tests on kernels; what passed and failed on all of them.
pub(crate) fn vm(series: &[Series]) -> anyhow::Result<Counts> {
    setup::setup(Purpose::Vm)?;
    fs::create_dir_all(folder().join("packages"))?;
    let programs = stage("tests for virtual machines", programs::build)?;
    let mut rows: Vec<Row> = Vec::new();
    for &series in series {
        let kernel = series.fetch();
        if let Ok(kernel) = &kernel
            && rows.iter().any(|row| row.release() == kernel.release)
        {
            println!("Linux {} is {}, which is tested already", series.name(), kernel.release);
            continue;
        }
        let test = || Row::of(series, kernel.and_then(|kernel| on(kernel, &programs)));
        rows.push(stage(&format!("tests on Linux {}", series.name()), test));
    }
    print!("{}", report::tables(&rows));
    Ok(rows.iter().fold(Counts::default(), |mut sum, row| {
        sum.add(row.counts());
        sum
    }))
}

/// Runs the tests on one kernel: its release, and what came out.
fn on(kernel: Kernel, programs: &[programs::Program]) -> anyhow::Result<(String, guest::Report)> {
    let folder = folder().join(&kernel.release);
    fs::create_dir_all(&folder)?;
    let (initial, console) = (folder.join("initramfs.cpio"), folder.join("console.log"));
    image::write(&initial, &kernel, programs, &programs::data())?;
    println!("booting Linux {}; its log: {}", kernel.release, console.display());
    let report = guest::boot(&kernel, &initial, &console)?;
    Ok((kernel.release, report))
}
