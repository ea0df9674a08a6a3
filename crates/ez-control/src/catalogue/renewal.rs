//! Renewing the catalogue: another document takes the place of the bundled one, for all control planes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::models::ModelsOrigin;
use ez_store::{Executor, RecordKind, StoreError, catalogues};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value as Json, json};
use url::Url;

use super::document::{self, MAX_DOCUMENT_BYTES};
use super::{Catalogue, bundled};
use crate::error::chain;
use crate::outbound::{self, OutboundRequest, Reach, Resolver};
use crate::recorded::Recorded;
use crate::write::NO_RECORD;
use crate::{Control, ControlError, Write};

/// Bound on fetching a document.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// What the catalogue that counts is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueStatus {
    /// Where it came from.
    pub origin: ModelsOrigin,
    /// What its source may be used under, or empty.
    pub license: String,
    /// Lower-case hex SHA-256 of its document.
    pub checksum: String,
    /// How many models it has.
    pub models: usize,
    /// When it took the place of the bundled one; none for that one.
    pub renewed_at: Option<DateTime<Utc>>,
}

/// A document that was read and checked, ready to take the place of the one that counts.
#[derive(Debug)]
pub struct Renewal {
    document: String,
    catalogue: Catalogue,
    /// Where it was fetched, without what may be a secret.
    fetched_from: Option<String>,
}

/// The renewed catalogue as this process read it last, with its id in the database.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Option<(i64, Arc<Catalogue>)>>);

/// What is told of a renewal in the audit.
struct Audited<'a> {
    status: &'a CatalogueStatus,
    fetched_from: Option<&'a str>,
}

#[derive(Deserialize)]
struct Form {
    url: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByUrl {
    url: String,
}

impl From<&Catalogue> for CatalogueStatus {
    fn from(catalogue: &Catalogue) -> Self {
        Self {
            origin: catalogue.origin.clone(),
            license: catalogue.license.clone(),
            checksum: catalogue.checksum.clone(),
            models: catalogue.len(),
            renewed_at: catalogue.renewed_at,
        }
    }
}

impl Recorded for Audited<'_> {
    const KIND: RecordKind = RecordKind::Model;

    fn id(&self) -> i64 {
        NO_RECORD
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.status.renewed_at.unwrap_or_default()
    }

    fn audited(&self) -> Json {
        let CatalogueStatus { origin, license, checksum, models, renewed_at } = self.status;
        json!({
            "source": origin.source, "version": origin.version, "license": license, "checksum": checksum,
            "upstream_url": origin.upstream_url, "upstream_ref": origin.upstream_ref, "models": models,
            "renewed_at": renewed_at, "fetched_from": self.fetched_from,
        })
    }
}

/// Reads a renewal: a catalogue document, or `{"url": …}`, which is fetched from a public address. To be done before the
/// unit of work, as it may take seconds. Errors: `Invalid` with every fault, also where fetching failed.
pub async fn prepare(text: &str) -> Result<Renewal, ControlError> {
    prepare_within(text, Reach::Public).await
}

async fn prepare_within(text: &str, reach: Reach) -> Result<Renewal, ControlError> {
    let is_by_url = serde_json::from_str::<Form>(text).is_ok_and(|form| form.url.is_some());
    if !is_by_url {
        return Ok(Renewal { document: text.to_owned(), catalogue: document::parse(text)?, fetched_from: None });
    }
    let by_url = serde_json::from_str(text);
    let ByUrl { url } = by_url.map_err(|_| ControlError::invalid_at("", "give either a url alone, or a catalogue"))?;
    let mut url = reach.parse(&url).map_err(|error| ControlError::invalid_at("/url", error))?;
    let document = fetch(url.clone(), reach).await?;
    let catalogue = document::parse(&document)?;
    // What is left out may be a secret, such as a signature.
    url.set_query(None);
    url.set_fragment(None);
    Ok(Renewal { document, catalogue, fetched_from: Some(url.into()) })
}

async fn fetch(url: Url, reach: Reach) -> Result<String, ControlError> {
    let request = OutboundRequest {
        method: Method::GET,
        url,
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
        reach,
        tls: None,
        resolver: Resolver::default(),
        timeout: FETCH_TIMEOUT,
        max_answer_bytes: Some(MAX_DOCUMENT_BYTES),
    };
    let at_url = |message: String| ControlError::invalid_at("/url", message);
    let answer = outbound::send(request).await.map_err(|error| at_url(error.to_string()))?;
    if answer.status != StatusCode::OK {
        return Err(at_url(format!("the server answered {}, not 200 with a catalogue", answer.status.as_u16())));
    }
    String::from_utf8(answer.body.into()).map_err(|_| at_url("the answer is no UTF-8 text".to_owned()))
}

/// Puts a document in the place of the catalogue that counts, and recompiles all models. Errors: `Unavailable`.
pub async fn renew(write: &Write, renewal: Renewal) -> Result<CatalogueStatus, ControlError> {
    let before = status_within(write).await?;
    catalogues::replace(write.tx(), &renewal.document, write.now()).await?;
    let after = CatalogueStatus { renewed_at: Some(write.now()), ..CatalogueStatus::from(&renewal.catalogue) };
    let audited = |status, fetched_from| Audited { status, fetched_from };
    let (was, is) = (audited(&before, None), audited(&after, renewal.fetched_from.as_deref()));
    write.record("renew", Some(&was), Some(&is), &[]).await?;
    Ok(after)
}

/// Goes back to the bundled catalogue, where it does not count already. Errors: `Unavailable`.
pub async fn reset(write: &Write) -> Result<(), ControlError> {
    let before = status_within(write).await?;
    if !catalogues::clear(write.tx()).await? {
        return Ok(());
    }
    let after = CatalogueStatus::from(bundled().as_ref());
    let audited = |status| Audited { status, fetched_from: None };
    write.record("reset", Some(&audited(&before)), Some(&audited(&after)), &[]).await
}

/// What the catalogue that counts is. Errors: `Unavailable`.
pub async fn status(control: &Control) -> Result<CatalogueStatus, ControlError> {
    Ok(CatalogueStatus::from(standing(control, control.store()).await?.as_ref()))
}

/// The same, as a write finds it before it changes it.
async fn status_within(write: &Write) -> Result<CatalogueStatus, ControlError> {
    Ok(CatalogueStatus::from(standing(write.control(), write.tx()).await?.as_ref()))
}

/// The catalogue that counts: the renewed one, where there is one that can be read, else the bundled one. A write asks
/// with its own transaction, as it must not wait for a second connection while it holds one, and before it renews: a
/// document that may yet be undone must not be kept.
pub(crate) async fn standing(control: &Control, db: &impl Executor) -> Result<Arc<Catalogue>, StoreError> {
    let Some(id) = catalogues::current_id(db).await? else { return Ok(bundled()) };
    if let Some(kept) = control.catalogue().of(id) {
        return Ok(kept);
    }
    // Gone again since a moment ago: the bundled one counts, or the next to ask finds another.
    let Some((text, renewed_at)) = catalogues::get(db, id).await? else { return Ok(bundled()) };
    let read = match document::parse(&text) {
        Ok(catalogue) => Arc::new(Catalogue { renewed_at: Some(renewed_at), ..catalogue }),
        Err(error) => {
            tracing::error!(error = %chain(&error), id, "the renewed model catalogue cannot be read; the bundled one counts");
            bundled()
        }
    };
    control.catalogue().keep(id, read.clone());
    Ok(read)
}

impl Kept {
    fn of(&self, id: i64) -> Option<Arc<Catalogue>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(kept_id, _)| *kept_id == id).map(|(_, catalogue)| catalogue.clone())
    }

    fn keep(&self, id: i64, catalogue: Arc<Catalogue>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, catalogue));
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const DOCUMENT: &str = r#"{"source":"ours","version":"7","models":[{"name":"m"}]}"#;

    /// Prepares a renewal from a server that gives this answer.
    async fn fetched(status: &str, body: &str) -> Result<Renewal, ControlError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/models.json?signature=secret", listener.local_addr().unwrap());
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 2000]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let form = json!({ "url": url }).to_string();
        tokio::join!(prepare_within(&form, Reach::Operator), answering).0
    }

    fn faults(outcome: Result<Renewal, ControlError>) -> Vec<String> {
        let Err(ControlError::Invalid(faults)) = outcome else { panic!("no faults") };
        faults.into_iter().map(|fault| format!("{}: {}", fault.pointer, fault.message)).collect()
    }

    #[tokio::test]
    async fn a_document_is_taken_as_it_is_or_fetched() {
        let sent = prepare(DOCUMENT).await.unwrap();
        assert_eq!((sent.document.as_str(), sent.fetched_from), (DOCUMENT, None));

        let fetched = fetched("200 OK", DOCUMENT).await.unwrap();
        assert_eq!((fetched.document.as_str(), fetched.catalogue.len()), (DOCUMENT, 1));
        let from = fetched.fetched_from.unwrap();
        assert!(from.ends_with("/models.json"), "{from}");
    }

    #[tokio::test]
    async fn what_cannot_be_fetched_is_told_at_the_url() {
        let told = faults(fetched("404 Not Found", "").await);
        assert_eq!(told, ["/url: the server answered 404, not 200 with a catalogue"]);
        let told = faults(fetched("200 OK", "<html>").await);
        assert!(told[0].starts_with(": is no catalogue"), "{told:?}");

        for url in ["http://127.0.0.1:1/", "https://10.0.0.1/", "http://169.254.169.254/", "ftp://h/", ""] {
            let told = faults(prepare(&json!({ "url": url }).to_string()).await);
            assert!(told[0].starts_with("/url: must "), "{told:?}");
        }
        let told = faults(prepare(r#"{"url":"https://example.com","models":[]}"#).await);
        assert_eq!(told, [": give either a url alone, or a catalogue"]);
    }
}
