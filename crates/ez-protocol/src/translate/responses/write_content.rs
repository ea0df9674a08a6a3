//! Writes texts and files of a Responses request.

use super::super::media::write_data_url;
use super::super::refused::Refused;
use super::super::request::{Media, MediaKind, MediaSource};
use crate::json::{Escaped, Writer};

/// Writes a text that is not the model's.
pub(super) fn write_text_part(json: &mut Writer, text: &Escaped<'_>) {
    json.object(|json| {
        json.key("type").string("input_text");
        json.key("text").escaped(text);
    });
}

/// Writes an image or a document. `field` is where it stands, for faults.
pub(super) fn write_media(json: &mut Writer, media: &Media<'_>, field: &str) -> Result<(), Refused> {
    match media.kind {
        MediaKind::Image => write_image(json, media),
        MediaKind::Document => write_file(json, media),
        MediaKind::Audio | MediaKind::Video => {
            let reason = "holds sound or film, which this model's upstream does not take: send it as text or images";
            return Err(Refused::inexpressible(field, reason));
        }
    }
    Ok(())
}

fn write_image(json: &mut Writer, media: &Media<'_>) {
    json.object(|json| {
        json.key("type").string("input_image");
        json.key("detail").escaped(media.detail.as_ref().unwrap_or(&Escaped::of("auto")));
        json.key("image_url");
        match &media.source {
            MediaSource::Base64 { media_type, data } => write_data_url(json, media_type, data),
            MediaSource::Url { url, .. } => json.escaped(url),
            MediaSource::Text(text) => json.escaped(text),
        }
    });
}

fn write_file(json: &mut Writer, media: &Media<'_>) {
    match &media.source {
        MediaSource::Base64 { media_type, data } => json.object(|json| {
            json.key("type").string("input_file");
            // The vendor wants one, and goes by its ending.
            let usual = Escaped::of(usual_name(&media_type.text()));
            json.key("filename").escaped(media.name.as_ref().filter(|name| !name.is_empty()).unwrap_or(&usual));
            write_data_url(json.key("file_data"), media_type, data);
            write_detail(json, media);
        }),
        MediaSource::Url { url, .. } => json.object(|json| {
            json.key("type").string("input_file");
            if let Some(name) = &media.name {
                json.key("filename").escaped(name);
            }
            json.key("file_url").escaped(url);
            write_detail(json, media);
        }),
        // A text with a title is a text.
        MediaSource::Text(text) => json.object(|json| {
            json.key("type").string("input_text");
            let title = media.name.as_ref().filter(|name| !name.is_empty());
            let (title, gap) = title.map_or((&Escaped::EMPTY, ""), |title| (title, "\n\n"));
            json.key("text").joined([title, &Escaped::of(gap), text]);
        }),
    }
}

fn write_detail(json: &mut Writer, media: &Media<'_>) {
    if let Some(detail) = &media.detail {
        json.key("detail").escaped(detail);
    }
}

/// The name of a document that the client gave none.
fn usual_name(media_type: &str) -> &'static str {
    match media_type {
        "application/pdf" => "document.pdf",
        "application/json" => "document.json",
        "text/csv" => "document.csv",
        "text/html" => "document.html",
        "text/markdown" => "document.md",
        word if word.starts_with("text/") => "document.txt",
        _ => "document",
    }
}

/// Writes an image that the model made.
pub(super) fn write_image_call(json: &mut Writer, media: &Media<'_>, id: &str, field: &str) -> Result<(), Refused> {
    let MediaSource::Base64 { data, .. } = &media.source else { return Err(unsaid(field)) };
    if media.kind != MediaKind::Image {
        return Err(unsaid(field));
    }
    json.object(|json| {
        json.key("type").string("image_generation_call");
        json.key("id").string(id);
        json.key("status").string("completed");
        json.key("result").escaped(data);
    });
    Ok(())
}

fn unsaid(field: &str) -> Refused {
    let reason = "holds a file in a turn of the model, which its upstream takes for images in base64 alone: send it as \
                  the user's";
    Refused::inexpressible(field, reason)
}
