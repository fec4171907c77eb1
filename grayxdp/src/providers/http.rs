//! Values from a JSON document that an HTTP server gives.

use crate::{
    analysis::Answer,
    model::plan::HttpQuery,
    providers::{
        document,
        web::{self, Web},
    },
};

/// Asks once.
pub(super) async fn ask(query: &HttpQuery) -> Result<Answer, String> {
    let HttpQuery { url, url_from, pointer, headers, headers_from, timeout: _, retries: _ } = query;
    let web = web_of(url.as_ref(), url_from.as_ref(), headers, headers_from)?;
    let text = web::get(&web, "", &[]).await?.good()?;
    match document::answer(&text, pointer.as_deref()) {
        Answer::Failed(why) => Err(why),
        answer @ (Answer::Values(_) | Answer::Document(_) | Answer::Empty) => Ok(answer),
    }
}

pub(super) fn web_of(
    address: Option<&String>,
    from: Option<&crate::model::plan::SecretSource>,
    headers: &std::collections::BTreeMap<String, String>,
    headers_from: &std::collections::BTreeMap<String, crate::model::plan::SecretSource>,
) -> Result<Web, String> {
    let address = match (address, from) {
        (Some(address), _) => Ok(address.clone()),
        (None, Some(source)) => Err(source.clone()),
        (None, None) => return Err("no address".to_owned()),
    };
    Ok(Web { address, headers: headers.clone(), headers_from: headers_from.clone() })
}
