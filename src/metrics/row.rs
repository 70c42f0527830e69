//! Numbers as rows: what each is called, what it does, what exactly it counts, and how it is read from whoever owns it; and their text, as
//! Prometheus reads it. A row is told of also while it has nothing to count.

use std::fmt::Write;

/// What a number does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Times, by how long they were.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A number of `T`, or a family of them.
pub struct Row<T: ?Sized> {
    /// Its name in Prometheus: `flux_peers`.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// What exactly it counts, in a sentence.
    pub(crate) help: &'static str,
    read: Reading<T>,
}

enum Reading<T: ?Sized> {
    One(fn(&T) -> f64),
    Each(&'static [&'static str], fn(&T, &mut Lines<'_>)),
}

/// The lines of one family.
pub(crate) struct Lines<'a> {
    text: &'a mut String,
    name: &'static str,
    labels: &'static [&'static str],
}

impl<T: ?Sized> Row<T> {
    /// A number that only grows.
    pub const fn counter(name: &'static str, help: &'static str, read: fn(&T) -> f64) -> Row<T> {
        Row { name, kind: Kind::Counter, help, read: Reading::One(read) }
    }

    /// A number that goes up and down.
    pub(crate) const fn gauge(name: &'static str, help: &'static str, read: fn(&T) -> f64) -> Row<T> {
        Row { name, kind: Kind::Gauge, help, read: Reading::One(read) }
    }

    /// Numbers that only grow, told apart by labels. How many there may be must have a bound.
    pub(crate) const fn counters(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&T, &mut Lines<'_>),
    ) -> Row<T> {
        Row { name, kind: Kind::Counter, help, read: Reading::Each(labels, read) }
    }

    /// The same of numbers that go up and down.
    pub(crate) const fn gauges(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&T, &mut Lines<'_>),
    ) -> Row<T> {
        Row { name, kind: Kind::Gauge, help, read: Reading::Each(labels, read) }
    }

    /// The same of times.
    pub(crate) const fn histograms(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&T, &mut Lines<'_>),
    ) -> Row<T> {
        Row { name, kind: Kind::Histogram, help, read: Reading::Each(labels, read) }
    }

    /// What it is; None for a family, which is many numbers.
    pub(crate) fn number(&self, owner: &T) -> Option<f64> {
        match self.read {
            Reading::One(read) => Some(read(owner)),
            Reading::Each(..) => None,
        }
    }

    /// What it is, as a line of docs/metrics.md.
    pub(crate) fn documented(&self) -> String {
        let labels: Vec<String> = match self.read {
            Reading::One(_) => Vec::new(),
            Reading::Each(labels, _) => labels.iter().map(|label| format!("`{label}`")).collect(),
        };
        format!("| `{}` | {} | {} | {} |\n", self.name, self.kind.name(), labels.join(", "), self.help)
    }

    fn write(&self, text: &mut String, owner: &T) {
        let Row { name, help, .. } = self;
        let kind = self.kind.name();
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        match self.read {
            Reading::One(read) => line(text, name, "", &[], read(owner)),
            Reading::Each(labels, read) => read(owner, &mut Lines { text, name, labels }),
        }
    }
}

impl Lines<'_> {
    /// One of the family, by the values of its labels.
    pub(crate) fn one(&mut self, values: &[&str], value: f64) {
        let labels = self.labels(values);
        line(self.text, self.name, "", &labels, value);
    }

    /// One of a family of times: how many took up to so many seconds (the upper ends of buckets, ascending), how long all took in seconds, and
    /// how many they are. Without buckets none are told.
    pub(crate) fn times(&mut self, values: &[&str], buckets: &[(f64, u64)], sum: f64, count: u64) {
        let labels = self.labels(values);
        if !buckets.is_empty() {
            let ends = buckets.iter().map(|(end, below)| (end.to_string(), *below)).chain([("+Inf".to_owned(), count)]);
            for (end, below) in ends {
                let labels: Vec<_> = labels.iter().copied().chain([("le", &*end)]).collect();
                line(self.text, self.name, "_bucket", &labels, below as f64);
            }
        }
        line(self.text, self.name, "_sum", &labels, sum);
        line(self.text, self.name, "_count", &labels, count as f64);
    }

    fn labels<'a>(&self, values: &[&'a str]) -> Vec<(&'static str, &'a str)> {
        assert_eq!(values.len(), self.labels.len(), "{} has as many values as labels", self.name);
        self.labels.iter().copied().zip(values.iter().copied()).collect()
    }
}

/// Writes rows of an owner in the text format of Prometheus.
pub(crate) fn expose<T: ?Sized>(text: &mut String, rows: &[Row<T>], owner: &T) {
    rows.iter().for_each(|row| row.write(text, owner));
}

fn line(text: &mut String, name: &str, part: &str, labels: &[(&str, &str)], value: f64) {
    text.push_str(name);
    text.push_str(part);
    for (at, (label, value)) in labels.iter().enumerate() {
        let _ = write!(text, "{}{label}=\"{}\"", if at == 0 { "{" } else { "," }, escaped(value));
    }
    let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

/// Values of labels come from scripts and clients and may hold anything.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_lines_that_prometheus_reads() {
        const ROWS: &[Row<u32>] = &[
            Row::gauge("one", "One.", |owner| f64::from(*owner) / 2.0),
            Row::counters("many", &["of"], "Many.", |_, lines| lines.one(&["a\\b\"c\nd"], 1.0)),
            Row::histograms("times", &["of"], "Times.", |_, lines| lines.times(&["x"], &[(0.5, 1)], 3.0, 2)),
        ];
        let mut text = String::new();
        expose(&mut text, ROWS, &5);
        let told = "# HELP one One.\n# TYPE one gauge\none 2.5\n\
                    # HELP many Many.\n# TYPE many counter\nmany{of=\"a\\\\b\\\"c\\nd\"} 1\n\
                    # HELP times Times.\n# TYPE times histogram\ntimes_bucket{of=\"x\",le=\"0.5\"} 1\ntimes_bucket{of=\"x\",le=\"+Inf\"} 2\n\
                    times_sum{of=\"x\"} 3\ntimes_count{of=\"x\"} 2\n";
        assert_eq!(text, told);
    }
}
