//! Containers of deployment files as processes on loopback: their arguments, environment and mounted files, with what belongs to their
//! network put in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::process::{Process, Spawn};
use hooklane_testkit::python::{self, workspace_root};
use hooklane_testkit::{Port, eventually};
use serde_json::Value;
use tempfile::TempDir;

use crate::stage::SOON;

/// The working directory of the image, and where everything is mounted.
const HOME: &str = "/etc/hooklane";

/// The top of the repository.
pub fn root() -> PathBuf {
    workspace_root()
}

/// A file of the repository.
pub fn text(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

/// The documents of a YAML text.
pub async fn documents(yaml: &str) -> Result<Vec<Value>> {
    let code = "import json, os, yaml; print(json.dumps(list(yaml.safe_load_all(os.environ['YAML']))))";
    let said = python::code(code)?.env("YAML", yaml).run_ok(SOON).await?;
    Ok(serde_json::from_str(&said)?)
}

/// docker-compose.yml as Compose itself resolves it.
pub async fn compose() -> Result<Value> {
    let said = Spawn::program("docker-compose")
        .arg("config")
        .cwd(root())
        .run_ok(SOON)
        .await?;
    Ok(documents(&said).await?.remove(0))
}

/// The first resource of this name.
pub fn named<'a>(documents: &'a [Value], name: &str) -> Result<&'a Value> {
    documents
        .iter()
        .find(|document| document["metadata"]["name"] == name)
        .with_context(|| format!("no resource is called {name}"))
}

/// The Secrets that a pod's template reads, as variables or files.
pub fn secrets_of(template: &Value) -> BTreeSet<String> {
    let pod = &template["spec"];
    let none = Vec::new();
    let variables = pod["containers"][0]["env"].as_array().unwrap_or(&none);
    let variables = variables
        .iter()
        .map(|one| &one["valueFrom"]["secretKeyRef"]["name"]);
    let volumes = pod["volumes"].as_array().unwrap_or(&none);
    let volumes = volumes.iter().map(|one| &one["secret"]["secretName"]);
    variables
        .chain(volumes)
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// What a container runs.
pub struct Container {
    /// Its service's or its own name.
    pub name: String,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// Path within the container, and content.
    files: Vec<(String, String)>,
}

fn strings(list: &Value) -> Result<Vec<String>> {
    let list = list.as_array().context("a list")?;
    list.iter()
        .map(|one| Ok(one.as_str().context("a text")?.to_owned()))
        .collect()
}

impl Container {
    /// A service of a Compose file.
    pub fn of_service(name: &str, service: &Value) -> Result<Container> {
        let environment = service["environment"].as_object().context("an environment")?;
        let environment = environment
            .iter()
            .map(|(key, value)| Ok((key.clone(), value.as_str().context("a text")?.to_owned())))
            .collect::<Result<_>>()?;
        let mut files = Vec::new();
        for volume in service["volumes"].as_array().unwrap_or(&Vec::new()) {
            let volume = volume.as_str().context("a volume in short form")?;
            let mut parts = volume.split(':');
            let (from, to) = (
                parts.next().context("a source")?,
                parts.next().context("a target")?,
            );
            files.push((to.to_owned(), std::fs::read_to_string(from)?));
        }
        Ok(Container {
            name: name.to_owned(),
            arguments: strings(&service["command"])?,
            environment,
            files,
        })
    }

    /// The container of a pod's template, with its Secrets and its ConfigMap.
    pub fn of_pod(template: &Value, secrets: &[Value], config: &[Value]) -> Result<Container> {
        let pod = &template["spec"];
        let container = &pod["containers"][0];
        let mut environment = BTreeMap::new();
        for variable in container["env"].as_array().context("an environment")? {
            let value = match variable["value"].as_str() {
                Some(value) => value,
                None => {
                    let reference = &variable["valueFrom"]["secretKeyRef"];
                    let secret = named(secrets, reference["name"].as_str().context("a name")?)?;
                    let value = &secret["stringData"][reference["key"].as_str().context("a key")?];
                    value.as_str().with_context(|| reference.to_string())?
                }
            };
            let name = variable["name"].as_str().context("a name")?;
            environment.insert(name.to_owned(), value.to_owned());
        }
        let mut files = Vec::new();
        for mount in container["volumeMounts"].as_array().unwrap_or(&Vec::new()) {
            let volumes = pod["volumes"].as_array().context("volumes")?;
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]);
            let volume = volume.with_context(|| format!("no volume for {mount}"))?;
            let content = match volume["secret"]["secretName"].as_str() {
                Some(name) => &named(secrets, name)?["stringData"],
                None => &named(config, volume["configMap"]["name"].as_str().context("a name")?)?["data"],
            };
            let path = mount["mountPath"].as_str().context("a path")?;
            for (file, content) in content.as_object().context("files")? {
                let content = content.as_str().context("a text")?;
                files.push((format!("{path}/{file}"), content.to_owned()));
            }
        }
        Ok(Container {
            name: container["name"].as_str().context("a name")?.to_owned(),
            arguments: strings(&container["args"])?,
            environment,
            files,
        })
    }

    /// Sets a variable that the file leaves out.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }
}

/// Where containers run as processes.
pub struct Site {
    dir: TempDir,
    replacements: Vec<(String, String)>,
    /// `name:port`, and what stands for it.
    ports: BTreeMap<String, Port>,
}

impl Site {
    /// A place without containers.
    pub fn new() -> Result<Site> {
        Ok(Site {
            dir: TempDir::new()?,
            replacements: Vec::new(),
            ports: BTreeMap::new(),
        })
    }

    /// What is written so in the files means that here.
    pub fn replace(&mut self, from: &str, to: &str) {
        self.replacements.push((from.to_owned(), to.to_owned()));
    }

    /// Gives the container a port of loopback for the one on which it listens.
    pub fn lease(&mut self, container: &Container) -> Result<()> {
        let mut texts = container.environment.values().chain(&container.arguments);
        let port = texts.find_map(|text| text.strip_prefix("0.0.0.0:"));
        let port = port.with_context(|| format!("{} listens nowhere", container.name))?;
        self.ports
            .insert(format!("{}:{port}", container.name), Port::lease()?);
        Ok(())
    }

    /// The address that stands for `name:port`.
    pub fn address(&self, of: &str) -> Result<String> {
        let port = self
            .ports
            .get(of)
            .with_context(|| format!("nobody listens on {of}"))?;
        Ok(format!("127.0.0.1:{}", port.number()))
    }

    fn translated(&self, container: &Container, text: &str) -> String {
        let home = format!("{}/{}{HOME}", self.dir.path().display(), container.name);
        let mut text = text.replace(HOME, &home);
        for (from, to) in &self.replacements {
            text = text.replace(from, to);
        }
        for (name, port) in &self.ports {
            let here = format!("127.0.0.1:{}", port.number());
            text = text.replace(&format!("//{name}"), &format!("//{here}"));
            if let Some(own) = name.strip_prefix(&format!("{}:", container.name)) {
                text = text.replace(&format!("0.0.0.0:{own}"), &here);
            }
        }
        text
    }

    /// The container's process, not started yet.
    pub fn spawn(&self, container: &Container) -> Result<Spawn> {
        let base = self.dir.path().join(&container.name);
        let home = base.join(HOME.trim_start_matches('/'));
        std::fs::create_dir_all(&home)?;
        for (path, content) in &container.files {
            let path = base.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().context("a directory")?)?;
            std::fs::write(path, self.translated(container, content))?;
        }
        let mut spawn = Spawn::program(env!("CARGO_BIN_EXE_hooklane")).cwd(home);
        for argument in &container.arguments {
            spawn = spawn.arg(self.translated(container, argument));
        }
        for (name, value) in &container.environment {
            spawn = spawn.env(name, self.translated(container, value));
        }
        Ok(spawn)
    }

    /// Starts it.
    pub fn start(&self, container: &Container) -> Result<Process> {
        self.spawn(container)?.start()
    }

    /// Waits until a path answers 200.
    pub async fn is_up(&self, http: &reqwest::Client, address: &str, path: &str) -> Result<()> {
        let url = format!("http://{address}{path}");
        eventually(&url, SOON, || async {
            let answer = http.get(&url).send().await?;
            ensure!(answer.status() == 200, "{}", answer.text().await?);
            Ok(())
        })
        .await
    }
}
