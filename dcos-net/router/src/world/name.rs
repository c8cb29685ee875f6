//! Names of services: `/group/app` of Marathon and `app.group` of Mesos-DNS are the same one.
//!
//! Source: dcos/dcos 2.2 `lib/util.lua` (`extract_service_path_component`).

/// A service as a path may name it: its first so many segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// In the form in which names are compared: reversed, with dots.
    pub name: String,
    /// As the path has it.
    pub path: String,
    /// How many bytes of the path it takes, slashes in front included.
    pub length: usize,
}

/// How many segments a name may have.
const LIMIT: usize = 10;

/// A name in the form in which names are compared.
///
/// ```
/// use dcos_router::world::normalize;
/// assert_eq!(normalize("/group1/group2/app"), "app.group2.group1");
/// assert_eq!(normalize("app"), "app");
/// ```
pub fn normalize(name: &str) -> String {
    let mut segments: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    segments.reverse();
    segments.join(".")
}

/// What the path behind `/service` may name, the shortest name first.
pub fn segments(path: &str) -> impl Iterator<Item = Named> + '_ {
    let mut length = 0;
    let mut name = String::new();
    let parts = path.split('/').filter_map(move |part| {
        length += part.len() + 1;
        (!part.is_empty()).then_some((part, length - 1))
    });
    parts.take(LIMIT).map(move |(part, length)| {
        name = if name.is_empty() {
            part.to_owned()
        } else {
            format!("{part}.{name}")
        };
        Named {
            name: name.clone(),
            path: path[..length].trim_start_matches('/').to_owned(),
            length,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_name_several_services() {
        let named: Vec<_> = segments("/group1/jenkins/v/foobar.js").collect();
        let expected = [
            ("group1", "group1", 7),
            ("jenkins.group1", "group1/jenkins", 15),
            ("v.jenkins.group1", "group1/jenkins/v", 17),
            (
                "foobar.js.v.jenkins.group1",
                "group1/jenkins/v/foobar.js",
                27,
            ),
        ];
        for (found, (name, path, length)) in named.iter().zip(expected) {
            assert_eq!(
                (&*found.name, &*found.path, found.length),
                (name, path, length)
            );
        }
        assert_eq!(named.len(), 4);
        assert_eq!(
            segments("/app/")
                .map(|named| named.length)
                .collect::<Vec<_>>(),
            [4]
        );
        assert_eq!(segments("/").count(), 0);
        assert_eq!(segments("/1/2/3/4/5/6/7/8/9/10/11/12").count(), 10);
    }
}
