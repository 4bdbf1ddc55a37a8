//! Whether a picture is taken: its size, by its header alone. Nothing is decoded here, and whoever
//! decodes it later must not be made to fill its memory by a few bytes. Pure.

use shared::blob::MAX_BLOB;

use super::Refused;

/// The most pixels of one picture: more than a camera takes that fits into 8 MiB.
const MAX_PIXELS: u64 = 50_000_000;

/// Refuses what is too large, in bytes or in pixels, and what does not say how large it is.
pub(super) fn check(bytes: &[u8]) -> Result<(), Refused> {
    if bytes.len() > MAX_BLOB {
        return Err(Refused::TooLarge {
            bytes: bytes.len(),
            limit: MAX_BLOB,
        });
    }
    let size = imagesize::blob_size(bytes)
        .map_err(|_| Refused::Damaged("the picture does not say how large it is".into()))?;
    let (width, height) = (size.width as u64, size.height as u64);
    match width.saturating_mul(height) {
        0 => Err(Refused::Damaged("the picture has no pixels".into())),
        1..=MAX_PIXELS => Ok(()),
        _ => Err(Refused::Pixels {
            width,
            height,
            millions: MAX_PIXELS / 1_000_000,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG's header with this size in it.
    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 6, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn pictures_are_taken_up_to_a_size_that_their_header_tells() {
        assert_eq!(check(&png(4000, 3000)), Ok(()));
        let gif = b"GIF89a\x10\x00\x20\x00\0\0\0";
        assert_eq!(check(gif), Ok(()));
        let bomb = check(&png(60_000, 60_000)).unwrap_err().to_string();
        assert!(bomb.contains("60000 × 60000"), "{bomb}");
        assert!(matches!(check(&png(0, 7)), Err(Refused::Damaged(_))));
        assert!(matches!(
            check(b"\xff\xd8\xff\xe0"),
            Err(Refused::Damaged(_))
        ));
        let long = [png(4, 3), vec![0; MAX_BLOB]].concat();
        assert!(matches!(check(&long), Err(Refused::TooLarge { .. })));
    }
}
