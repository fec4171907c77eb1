//! The commands that the daemon carries out: ask, show the answer.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use crate::{
    cli::{
        args::{ChangeArguments, QualityCommand, RolloutCommand, WaitArguments, WeightsCommand},
        daemon,
        exit::{CliError, Exit},
        files,
        output::Output,
        report, show,
        watch::{self, Goal},
    },
    control::{Client, ClientError},
    model::{
        Name,
        api::{ChangeOptions, NamedMatrix, PostedQuality, Request, Response, RolloutAction},
        config::Protocol,
    },
};

/// A daemon, and where its answers go.
pub(super) struct Remote {
    pub(super) client: Client,
    pub(super) output: Output,
}

impl Remote {
    /// Asks, and shows whatever is answered.
    pub(super) async fn ask(&self, request: Request) -> Result<Exit, CliError> {
        let response = self.client.request(&request).await?;
        self.show(&response)?;
        Ok(Exit::Done)
    }

    pub(super) fn show(&self, response: &Response) -> Result<(), CliError> {
        let output = self.output;
        match response {
            Response::Status(body) => output.answer(body, |paint| show::status(body, paint)),
            Response::Done(body) => output.answer(body, |paint| show::done(body, paint)),
            Response::Explained(body) => output.answer(body, |paint| show::explained(body, paint)),
            Response::Trace(body) => {
                output.answer(body, |paint| body.packets.iter().map(|packet| show::traced(packet, paint)).collect())
            }
            Response::Rollouts(body) => output.answer(body, |paint| show::rollouts(body, paint)),
            Response::Rollout(body) => output.answer(body, |paint| show::rollout(body, paint)),
            Response::Record(body) => output.answer(body, |paint| report::history(body, paint)),
            Response::Backends(body) => output.answer(body, |paint| show::backends(body, paint)),
            Response::Events(body) => {
                output.answer(body, |paint| body.iter().map(|event| show::event(event, paint)).collect())
            }
        }
    }

    /// `status`.
    pub(super) async fn status(&self) -> Result<Exit, CliError> {
        self.ask(Request::Status).await
    }

    /// `reload`.
    pub(super) async fn reload(
        &self,
        diff: bool,
        reset_weights: Vec<Name>,
        options: ChangeOptions,
    ) -> Result<Exit, CliError> {
        self.ask(Request::Reload { diff, reset_weights, options }).await
    }

    /// `explain`.
    pub(super) async fn explain(
        &self,
        (source, destination, protocol): (SocketAddr, SocketAddr, Protocol),
        dscp: u8,
        later: bool,
        at: Option<jiff::Timestamp>,
    ) -> Result<Exit, CliError> {
        self.ask(Request::Explain { source, destination, protocol, dscp, later, at }).await
    }

    /// `weights get` and `weights set`.
    pub(super) async fn weights(&self, command: WeightsCommand) -> Result<Exit, CliError> {
        match command {
            WeightsCommand::Get { service } => self.weights_get(service).await,
            WeightsCommand::Set { service, segment, weights, change } => {
                let names: std::collections::BTreeSet<&Name> = weights.iter().map(|(version, _)| version).collect();
                if names.len() < weights.len() {
                    return Err(CliError::Input("a version is named twice: give each its weight once".to_owned()));
                }
                let weights = weights.into_iter().collect();
                self.ask(Request::WeightsSet { service, segment, weights, options: change.options() }).await
            }
        }
    }

    async fn weights_get(&self, service: Option<Name>) -> Result<Exit, CliError> {
        let response = self.client.request(&Request::Status).await?;
        let Response::Status(status) = response else { return Err(unexpected(&response)) };
        let all: Vec<show::Shares> = status.services.iter().map(show::shares_of).collect();
        match service {
            None => self.output.answer(&all, |paint| show::weights(&all, paint))?,
            Some(name) => {
                let one = all.iter().find(|shares| shares.service == name).ok_or_else(|| {
                    CliError::Input(format!("there is no service {name}: `grayxdp status` lists all"))
                })?;
                self.output.answer(one, |paint| show::weights(std::slice::from_ref(one), paint))?;
            }
        }
        Ok(Exit::Done)
    }

    /// `rollout` and what follows it.
    pub(super) async fn rollout(&self, command: RolloutCommand) -> Result<Exit, CliError> {
        match command {
            RolloutCommand::List => self.ask(Request::RolloutList).await,
            RolloutCommand::Get { name, watch: false } => self.ask(Request::RolloutGet { name }).await,
            RolloutCommand::History { name, number } => self.ask(Request::RolloutRecord { name, number }).await,
            RolloutCommand::Report { name, number, html, file } => {
                self.report(name, number, html, file.as_deref()).await
            }
            RolloutCommand::Get { name, watch: true } => watch::rollout(self, &name).await,
            RolloutCommand::Start { plan, change, wait } => {
                let plan = Box::new(files::read_plan(&plan)?);
                let name = plan.metadata.name.clone();
                let request = Request::RolloutStart { plan, options: change.options() };
                self.change(request, &name, wait, Goal::End).await
            }
            RolloutCommand::Apply { plan, change, wait } => {
                let plan = Box::new(files::read_plan(&plan)?);
                let name = plan.metadata.name.clone();
                let request = Request::RolloutApply { plan, options: change.options() };
                self.change(request, &name, wait, Goal::End).await
            }
            RolloutCommand::Pause { name, change } => self.act(name, RolloutAction::Pause, change).await,
            RolloutCommand::Resume { name, change } => self.act(name, RolloutAction::Resume, change).await,
            RolloutCommand::Back { name, change } => self.act(name, RolloutAction::Back, change).await,
            RolloutCommand::Freeze { name, change } => self.act(name, RolloutAction::Freeze, change).await,
            RolloutCommand::Accelerate { name, change } => self.act(name, RolloutAction::Accelerate, change).await,
            RolloutCommand::Promote { name, full, change, wait } => {
                self.act_and_wait(name, RolloutAction::Promote { full }, change, (wait, Goal::End)).await
            }
            RolloutCommand::Retry { name, change, wait } => {
                self.act_and_wait(name, RolloutAction::Retry, change, (wait, Goal::End)).await
            }
            RolloutCommand::Undo { name, change, wait } => {
                self.act_and_wait(name, RolloutAction::Undo, change, (wait, Goal::RolledBack)).await
            }
            RolloutCommand::Abort { name: Some(name), all: _, change, wait } => {
                self.act_and_wait(name, RolloutAction::Abort, change, (wait, Goal::RolledBack)).await
            }
            RolloutCommand::Abort { name: None, all: _, change, wait: _ } => {
                self.ask(Request::RolloutAbortAll { options: change.options() }).await
            }
        }
    }

    /// The report of a rollout, into a file or to the output. `-o json` gives what it is made of.
    async fn report(&self, name: Name, number: Option<u64>, html: bool, file: Option<&Path>) -> Result<Exit, CliError> {
        let response = self.client.request(&Request::RolloutRecord { name, number }).await?;
        let Response::Record(record) = response else { return Err(unexpected(&response)) };
        let text = if html { report::html(&record)? } else { report::markdown(&record) };
        match file {
            None => self.output.answer(&record, |_| text)?,
            Some(file) => files::write(file, &text)?,
        }
        Ok(Exit::Done)
    }

    async fn act(&self, name: Name, action: RolloutAction, change: ChangeArguments) -> Result<Exit, CliError> {
        self.ask(Request::RolloutChange { name, action, options: change.options() }).await
    }

    async fn act_and_wait(
        &self,
        name: Name,
        action: RolloutAction,
        change: ChangeArguments,
        (wait, goal): (WaitArguments, Goal),
    ) -> Result<Exit, CliError> {
        let request = Request::RolloutChange { name: name.clone(), action, options: change.options() };
        self.change(request, &name, wait, goal).await
    }

    /// `quality post`.
    pub(super) async fn quality(&self, command: QualityCommand) -> Result<Exit, CliError> {
        let QualityCommand::Post { rollout, matrices, metric, change } = command;
        let mut by_version = BTreeMap::new();
        for NamedMatrix { version, matrix } in matrices {
            if by_version.insert(version.clone(), matrix).is_some() {
                return Err(CliError::Input(format!("{version} is given twice")));
            }
        }
        let quality = PostedQuality { metric, matrices: by_version, options: change.options() };
        self.ask(Request::QualityPost { rollout, quality: Box::new(quality) }).await
    }

    /// A change of a rollout, waited for where that is asked.
    async fn change(&self, request: Request, name: &Name, wait: WaitArguments, goal: Goal) -> Result<Exit, CliError> {
        let response = self.client.request(&request).await?;
        let only_asked = matches!(&response, Response::Done(done) if done.dry_run);
        if wait.wait && !only_asked {
            watch::until(self, name, goal, wait.timeout).await
        } else {
            self.show(&response)?;
            Ok(Exit::Done)
        }
    }

    /// `detach`, by the daemon where one runs.
    pub(super) async fn detach(&self, config: Option<&Path>, options: ChangeOptions) -> Result<Exit, CliError> {
        let response = match self.client.request(&Request::Detach { options: options.clone() }).await {
            Err(ClientError::NoDaemon(_)) => Response::Done(daemon::offline_detach(config, &options)?),
            answered @ (Ok(_) | Err(_)) => answered?,
        };
        self.show(&response)?;
        Ok(Exit::Done)
    }
}

/// An answer of another kind than the request's.
pub(super) fn unexpected(response: &Response) -> CliError {
    let kind = match response {
        Response::Status(_) => "status",
        Response::Done(_) => "done",
        Response::Events(_) => "events",
        Response::Explained(_) => "explained",
        Response::Trace(_) => "trace",
        Response::Rollouts(_) => "rollouts",
        Response::Rollout(_) => "rollout",
        Response::Record(_) => "record",
        Response::Backends(_) => "backends",
    };
    CliError::Failed(format!("the daemon answered with `{kind}` to something else: is it of this version?"))
}
