//! The rows of images, their references and their layers.

use std::io;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::boxes::now_ms;
use crate::column::{json, parsed, to_json};
use crate::database::{DatabaseError, Durability, from_sqlite};
use crate::{BoxId, Digest, Home, ImageLease, ImageRecord, LayerRecord, NewImage};

/// Why images could not be read or marked.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why no single image was found.
#[derive(Debug, thiserror::Error)]
pub enum FindImageError {
    /// There is none.
    #[error("no such image: {query}")]
    NotFound {
        /// What was asked for.
        query: String,
    },
    /// There are several.
    #[error("{query} could be any of {} images", matches.len())]
    Ambiguous {
        /// What was asked for.
        query: String,
        /// The images whose digests begin with it.
        matches: Vec<Digest>,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why an image was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum PutImageError {
    /// A file that the row would name isn't there.
    #[error("can't record the image: {} is not there: {source}", path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The image whose root filesystem was built isn't recorded.
    #[error("no such image: {digest}")]
    NoSuchImage {
        /// The image.
        digest: Digest,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a reference did not change.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// There is no such image.
    #[error("no such image: {digest}")]
    NoSuchImage {
        /// What was asked for.
        digest: Digest,
    },
    /// There is no such reference.
    #[error("no image is named {reference}")]
    NoSuchReference {
        /// What was asked for.
        reference: String,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why an image was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveImageError {
    /// There is no such image.
    #[error("no such image: {digest}")]
    NoSuchImage {
        /// What was asked for.
        digest: Digest,
    },
    /// Boxes need it.
    #[error(
        "the image is used by {}",
        boxes.iter().map(|(id, name)| format!("{name} ({})", id.short())).collect::<Vec<_>>().join(", ")
    )]
    InUse {
        /// Which boxes, with their names.
        boxes: Vec<(BoxId, String)>,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

from_sqlite!(ImageError, FindImageError, PutImageError, TagError, RemoveImageError);

fn record(row: &Row<'_>) -> rusqlite::Result<ImageRecord> {
    Ok(ImageRecord {
        digest: parsed(row, 0)?,
        config_digest: parsed(row, 1)?,
        manifest: json(row, 2)?,
        platform: row.get(3)?,
        size_bytes: from_integer(row.get(4)?),
        created_at_ms: row.get(5)?,
        added_at_ms: row.get(6)?,
        last_used_at_ms: row.get(7)?,
        rootfs_bytes: row.get::<_, Option<i64>>(8)?.map(from_integer),
        references: json(row, 9)?,
        boxes: from_integer(row.get(10)?),
    })
}

fn from_integer(value: i64) -> u64 {
    value.try_into().unwrap_or(0)
}

fn to_integer(value: u64) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn select(
    connection: &Connection,
    condition: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<ImageRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT digest, config_digest, manifest, platform, size_bytes, created_at_ms, added_at_ms,
                last_used_at_ms, rootfs_bytes,
                (SELECT json_group_array(reference ORDER BY reference) FROM image_references
                    WHERE image_references.image_digest = images.digest),
                (SELECT count(*) FROM boxes WHERE boxes.image_digest = images.digest)
             FROM images {condition}"
        ))?
        .query_map(parameters, record)?
        .collect()
}

pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<ImageRecord>> {
    select(connection, "ORDER BY added_at_ms DESC, digest", [])
}

/// Notes that an image was used; whether there is one.
pub(crate) fn touch(connection: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("UPDATE images SET last_used_at_ms = ?2 WHERE digest = ?1")?
        .execute(params![digest.as_str(), now_ms()])
        .map(|changed| changed > 0)
}

fn point(connection: &Connection, reference: &str, digest: &Digest) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO image_references (reference, image_digest) VALUES (?1, ?2)
             ON CONFLICT (reference) DO UPDATE SET image_digest = excluded.image_digest",
        )?
        .execute([reference, digest.as_str()])
        .map(drop)
}

fn using_boxes(connection: &Connection, digest: &Digest) -> rusqlite::Result<Vec<(BoxId, String)>> {
    connection
        .prepare_cached("SELECT id, name FROM boxes WHERE image_digest = ?1 ORDER BY created_at_ms, id")?
        .query_map([digest.as_str()], |row| Ok((parsed(row, 0)?, row.get(1)?)))?
        .collect()
}

/// Deletes an image's rows if no box has it.
pub(crate) fn delete(connection: &Connection, digest: &Digest) -> Result<Vec<String>, RemoveImageError> {
    let Some(image) = select(connection, "WHERE digest = ?1", [digest.as_str()])?.pop() else {
        return Err(RemoveImageError::NoSuchImage { digest: digest.clone() });
    };
    let boxes = using_boxes(connection, digest)?;
    if !boxes.is_empty() {
        return Err(RemoveImageError::InUse { boxes });
    }
    connection.execute(
        "DELETE FROM image_references WHERE image_digest = ?1",
        [digest.as_str()],
    )?;
    connection.execute("DELETE FROM images WHERE digest = ?1", [digest.as_str()])?;
    connection.execute(
        "DELETE FROM layers WHERE NOT EXISTS (SELECT 1 FROM image_layers WHERE layer_digest = layers.digest)",
        [],
    )?;
    Ok(image.references)
}

/// Images that no box has, and if `dangling_only` also no reference names.
pub(crate) fn unused(connection: &Connection, dangling_only: bool) -> rusqlite::Result<Vec<Digest>> {
    connection
        .prepare_cached(
            "SELECT digest FROM images WHERE
                NOT EXISTS (SELECT 1 FROM boxes WHERE boxes.image_digest = images.digest)
                AND (NOT ?1 OR NOT EXISTS
                    (SELECT 1 FROM image_references WHERE image_references.image_digest = images.digest))
             ORDER BY digest",
        )?
        .query_map([dangling_only], |row| parsed(row, 0))?
        .collect()
}

/// Every blob that a row names, with the image that names it.
pub(crate) fn named_blobs(connection: &Connection) -> rusqlite::Result<Vec<(Digest, Digest)>> {
    connection
        .prepare_cached(
            "SELECT digest, digest FROM images
             UNION ALL SELECT digest, config_digest FROM images
             UNION ALL SELECT image_digest, layer_digest FROM image_layers
             UNION ALL SELECT image_digest, blob_digest FROM image_blobs",
        )?
        .query_map([], |row| Ok((parsed(row, 0)?, parsed(row, 1)?)))?
        .collect()
}

/// Every image whose root filesystem a row says to be built.
pub(crate) fn built(connection: &Connection) -> rusqlite::Result<Vec<Digest>> {
    connection
        .prepare_cached("SELECT digest FROM images WHERE rootfs_bytes IS NOT NULL")?
        .query_map([], |row| parsed(row, 0))?
        .collect()
}

impl Home {
    /// Records an image whose blobs are in the content store, and, if `reference` is given,
    /// makes it name this image from now on. An image that is recorded already stays, with its
    /// root filesystem and what else names it. An image without blobs (a folder that was made
    /// into a root filesystem) has no layers and gets its files by [`Home::put_rootfs`] alone:
    /// `require_blobs` is false for it.
    ///
    /// # Errors
    /// [`PutImageError`].
    pub fn put_image(
        &self,
        _lease: &ImageLease,
        image: &NewImage,
        reference: Option<&str>,
        require_blobs: bool,
    ) -> Result<ImageRecord, PutImageError> {
        if require_blobs {
            let layers = image.layers.iter().map(|layer| &layer.digest);
            for digest in [&image.digest, &image.config_digest]
                .into_iter()
                .chain(layers)
                .chain(&image.other_blobs)
            {
                let path = self.blob_path(digest);
                std::fs::metadata(&path).map_err(|source| PutImageError::MissingFile { path, source })?;
            }
        }
        let digest = image.digest.as_str();
        self.database().write(Durability::PowerCut, |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO images (digest, config_digest, manifest, platform, size_bytes, created_at_ms,
                        added_at_ms, last_used_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
                     ON CONFLICT (digest) DO UPDATE SET manifest = excluded.manifest,
                        last_used_at_ms = excluded.last_used_at_ms",
                )?
                .execute(params![
                    digest,
                    image.config_digest.as_str(),
                    to_json(&image.manifest)?,
                    image.platform,
                    to_integer(image.size_bytes),
                    image.created_at_ms,
                    now_ms(),
                ])?;
            for (position, layer) in (0_i64..).zip(&image.layers) {
                transaction
                    .prepare_cached("INSERT INTO layers VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?
                    .execute(params![
                        layer.digest.as_str(),
                        layer.diff_id.as_ref().map(Digest::as_str),
                        layer.media_type,
                        to_integer(layer.size_bytes),
                    ])?;
                transaction
                    .prepare_cached("INSERT INTO image_layers VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
                    .execute(params![digest, position, layer.digest.as_str()])?;
            }
            for blob in &image.other_blobs {
                transaction
                    .prepare_cached("INSERT INTO image_blobs VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                    .execute([digest, blob.as_str()])?;
            }
            if let Some(reference) = reference {
                point(transaction, reference, &image.digest)?;
            }
            select(transaction, "WHERE digest = ?1", [digest])?
                .pop()
                .ok_or_else(|| PutImageError::NoSuchImage {
                    digest: image.digest.clone(),
                })
        })
    }

    /// Records that the root filesystem of an image is at [`Home::rootfs_path`], with
    /// `rootfs_bytes` of content.
    ///
    /// # Errors
    /// [`PutImageError`]; `MissingFile` if it isn't there.
    pub fn put_rootfs(&self, _lease: &ImageLease, image: &Digest, rootfs_bytes: u64) -> Result<(), PutImageError> {
        let path = self.rootfs_path(image);
        std::fs::metadata(&path).map_err(|source| PutImageError::MissingFile { path, source })?;
        self.database().write(Durability::PowerCut, |transaction| {
            let changed = transaction
                .prepare_cached("UPDATE images SET rootfs_bytes = ?2 WHERE digest = ?1")?
                .execute(params![image.as_str(), to_integer(rootfs_bytes)])?;
            if changed == 0 {
                Err(PutImageError::NoSuchImage { digest: image.clone() })
            } else {
                Ok(())
            }
        })
    }

    /// Records that an image has no usable root filesystem any more, so that the next use
    /// builds it again.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn forget_rootfs(&self, image: &Digest) -> Result<(), ImageError> {
        self.database().write(Durability::PowerCut, |transaction| {
            transaction.execute(
                "UPDATE images SET rootfs_bytes = NULL WHERE digest = ?1",
                [image.as_str()],
            )?;
            Ok(())
        })
    }

    /// The image with this digest.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn image(&self, digest: &Digest) -> Result<Option<ImageRecord>, ImageError> {
        self.database()
            .read(|transaction| Ok(select(transaction, "WHERE digest = ?1", [digest.as_str()])?.pop()))
    }

    /// The image that this reference, written exactly so, names.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn image_named(&self, reference: &str) -> Result<Option<ImageRecord>, ImageError> {
        let condition = "WHERE digest = (SELECT image_digest FROM image_references WHERE reference = ?1)";
        self.database()
            .read(|transaction| Ok(select(transaction, condition, [reference])?.pop()))
    }

    /// The image with this reference, written exactly so, else the only one whose digest (with
    /// or without its algorithm) begins so.
    ///
    /// # Errors
    /// [`FindImageError`].
    pub fn find_image(&self, query: &str) -> Result<ImageRecord, FindImageError> {
        let not_found = || FindImageError::NotFound {
            query: query.to_owned(),
        };
        if let Some(image) = self.image_named(query).map_err(|ImageError::Database(error)| error)? {
            return Ok(image);
        }
        let hex = query.strip_prefix("sha256:").unwrap_or(query);
        if hex.is_empty() || hex.len() > 64 || !crate::box_id::is_lower_hex(hex) {
            return Err(not_found());
        }
        let prefix = format!("sha256:{hex}");
        let mut images = self.database().read(|transaction| {
            Ok::<_, FindImageError>(select(
                transaction,
                "WHERE digest >= ?1 AND digest < ?1 || 'g' ORDER BY digest",
                [prefix],
            )?)
        })?;
        match (images.pop(), images.len()) {
            (None, _) => Err(not_found()),
            (Some(image), 0) => Ok(image),
            (Some(image), _) => {
                let matches = images.into_iter().chain([image]).map(|image| image.digest).collect();
                Err(FindImageError::Ambiguous {
                    query: query.to_owned(),
                    matches,
                })
            }
        }
    }

    /// All images, the newest here first.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn list_images(&self) -> Result<Vec<ImageRecord>, ImageError> {
        self.database().read(|transaction| Ok(all(transaction)?))
    }

    /// The layers of an image, lowest first.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn image_layers(&self, digest: &Digest) -> Result<Vec<LayerRecord>, ImageError> {
        self.database().read(|transaction| {
            let layers = transaction
                .prepare_cached(
                    "SELECT digest, diff_id, media_type, size_bytes FROM image_layers
                     JOIN layers ON layers.digest = image_layers.layer_digest
                     WHERE image_digest = ?1 ORDER BY position",
                )?
                .query_map([digest.as_str()], |row| {
                    Ok(LayerRecord {
                        digest: parsed(row, 0)?,
                        diff_id: crate::column::parsed_or_none(row, 1)?,
                        media_type: row.get(2)?,
                        size_bytes: from_integer(row.get(3)?),
                    })
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(layers)
        })
    }

    /// Makes a reference name this image, whatever it named before.
    ///
    /// # Errors
    /// [`TagError`].
    pub fn tag_image(&self, digest: &Digest, reference: &str) -> Result<(), TagError> {
        self.database().write(Durability::Process, |transaction| {
            if !touch(transaction, digest)? {
                return Err(TagError::NoSuchImage { digest: digest.clone() });
            }
            point(transaction, reference, digest)?;
            Ok(())
        })
    }

    /// Forgets a reference and says what it named. The image stays.
    ///
    /// # Errors
    /// [`TagError`].
    pub fn untag_image(&self, reference: &str) -> Result<Digest, TagError> {
        self.database().write(Durability::Process, |transaction| {
            transaction
                .prepare_cached("DELETE FROM image_references WHERE reference = ?1 RETURNING image_digest")?
                .query_row([reference], |row| parsed(row, 0))
                .optional()?
                .ok_or_else(|| TagError::NoSuchReference {
                    reference: reference.to_owned(),
                })
        })
    }

    /// Forgets an image and its references, which it returns, unless a box has it. Its files go
    /// with the next [`Home::collect_garbage`].
    ///
    /// # Errors
    /// [`RemoveImageError`].
    pub fn remove_image(&self, digest: &Digest) -> Result<Vec<String>, RemoveImageError> {
        self.database()
            .write(Durability::PowerCut, |transaction| delete(transaction, digest))
    }
}
