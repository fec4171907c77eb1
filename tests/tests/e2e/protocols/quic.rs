//! QUIC by quinn: a server on each backend, clients with an endpoint each.

use std::{net::UdpSocket, sync::Arc};

use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use tokio::runtime::Runtime;

use crate::ways::Front;

/// Name in the certificate.
const NAME: &str = "recsys.test";

/// A connection and the endpoint that keeps it.
pub(super) struct Client {
    connection: Connection,
    _endpoint: Endpoint,
}

/// A server on each backend; each answers what it is.
pub(super) struct Servers {
    runtime: Runtime,
    client: ClientConfig,
    _endpoints: Vec<Endpoint>,
}

impl Servers {
    pub(super) fn start(front: &Front) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let client = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
        let endpoint = |(index, version): (usize, &'static str)| {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
            let server = ServerConfig::with_single_cert(vec![certificate.clone()], key).unwrap();
            let socket = front.stand.lab().backend(index).run(|| UdpSocket::bind(front.end(index))).unwrap();
            let _inside = runtime.enter();
            let endpoint =
                Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime)).unwrap();
            runtime.spawn(answer(endpoint.clone(), version));
            endpoint
        };
        let endpoints = [(0, "v1"), (1, "v2")].map(endpoint).into();
        Self { runtime, client, _endpoints: endpoints }
    }

    /// A connection from a client's address.
    pub(super) fn connect(&self, front: &Front, flow: u16) -> Client {
        let socket = front.stand.lab().client().run(|| UdpSocket::bind((front.source(flow), 0))).unwrap();
        self.runtime.block_on(async {
            let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)).unwrap();
            let connecting = endpoint.connect_with(self.client.clone(), front.target(), NAME).unwrap();
            Client { connection: connecting.await.unwrap(), _endpoint: endpoint }
        })
    }

    /// Who answers on a connection.
    pub(super) fn ask(&self, client: &Client) -> String {
        self.runtime.block_on(async {
            let (mut send, mut receive) = client.connection.open_bi().await.unwrap();
            send.write_all(b"who?").await.unwrap();
            send.finish().unwrap();
            String::from_utf8(receive.read_to_end(100).await.unwrap()).unwrap()
        })
    }
}

/// Answers each stream of each connection.
async fn answer(endpoint: Endpoint, version: &'static str) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                if receive.read_to_end(100).await.is_ok() && send.write_all(version.as_bytes()).await.is_ok() {
                    let _ = send.finish();
                }
            }
        });
    }
}
