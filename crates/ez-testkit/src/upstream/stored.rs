//! Responses by id: what was answered is kept, and shown to the credential that it was made with.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::body::SimBody;
use super::error::VendorError;
use super::route::Vendor;

/// Kept responses; older ones are forgotten.
const STORED_MAX: usize = 1_000;

/// The responses that were made, oldest first.
#[derive(Default)]
pub(super) struct Stored(VecDeque<StoredResponse>);

struct StoredResponse {
    id: String,
    credential: String,
    body: Bytes,
}

/// What a path asks of a kept response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct StoredRoute<'p> {
    id: &'p str,
    action: Option<&'p str>,
}

impl<'p> StoredRoute<'p> {
    /// `…/responses/{id}`, `…/responses/{id}/cancel` and `…/responses/{id}/input_items`.
    pub(super) fn find(path: &'p str) -> Option<Self> {
        let (_, after) = path.split_once("/responses/")?;
        let (id, action) = match after.split_once('/') {
            Some((id, action)) => (id, Some(action)),
            None => (after, None),
        };
        id.starts_with("resp_").then_some(Self { id, action })
    }
}

impl Stored {
    pub(super) fn keep(&mut self, id: String, credential: &str, body: Bytes) {
        if self.0.len() == STORED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(StoredResponse { id, credential: credential.to_owned(), body });
    }

    /// Whether this credential made it.
    pub(super) fn has(&self, id: &str, credential: &str) -> bool {
        self.position(id, credential).is_some()
    }

    pub(super) fn answer(
        &mut self,
        method: &Method,
        route: StoredRoute<'_>,
        credential: &str,
        serial: u64,
    ) -> Response<SimBody> {
        let refused = |status: u16, message: String| VendorError::new(status, message).response(Vendor::OpenAi, serial);
        let id = route.id;
        let Some(position) = self.position(id, credential) else {
            return refused(404, format!("Response with id '{id}' not found."));
        };
        let body = match (method, route.action) {
            (&Method::GET, None) => self.0[position].body.clone(),
            (&Method::DELETE, None) => {
                self.0.remove(position);
                json!({"id": id, "object": "response", "deleted": true}).to_string().into()
            }
            (&Method::POST, Some("cancel")) => {
                let stored = &mut self.0[position];
                let mut response: Value = serde_json::from_slice(&stored.body).expect("an own answer is JSON");
                response["status"] = json!("cancelled");
                stored.body = response.to_string().into();
                stored.body.clone()
            }
            (&Method::GET, Some("input_items")) => {
                let item =
                    json!({"id": "msg_in", "type": "message", "role": "user", "status": "completed", "content": []});
                json!({"object": "list", "data": [item], "first_id": "msg_in", "last_id": "msg_in", "has_more": false})
                    .to_string()
                    .into()
            }
            (_, None | Some("cancel" | "input_items")) => return refused(405, String::new()),
            _ => return refused(404, String::new()),
        };
        let mut response = super::serve::response(Vendor::OpenAi, serial, "application/json", SimBody::whole(body));
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn position(&self, id: &str, credential: &str) -> Option<usize> {
        self.0.iter().position(|stored| stored.id == id && stored.credential == credential)
    }
}
