//! Numbers as Prometheus reads them: its text format, version 0.0.4.

use std::fmt::{Display, Write};

/// Text under construction.
pub struct Page {
    prefix: &'static str,
    text: String,
}

/// What a histogram has counted.
pub struct Histogram<'a> {
    /// The upper bounds of its buckets, and how many values are in each, not in those below it.
    pub buckets: &'a mut dyn Iterator<Item = (f64, u64)>,
    /// Of all values, those beyond the last bound included.
    pub count: u64,
    pub sum: f64,
}

impl Page {
    /// Every name begins with `prefix`.
    pub fn new(prefix: &'static str) -> Page {
        Page { prefix, text: String::with_capacity(8 << 10) }
    }

    /// What only grows, until the process ends.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, "counter", help, value);
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "gauge", help, value);
    }

    pub fn histogram(&mut self, name: &str, help: &str, histogram: Histogram<'_>) {
        let Histogram { buckets, count, sum } = histogram;
        let name = self.head(name, "histogram", help);
        let mut below = 0;
        for (bound, here) in buckets {
            below += here;
            let _ = writeln!(self.text, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(self.text, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(self.text, "{name}_sum {sum}\n{name}_count {count}");
    }

    pub fn finish(self) -> String {
        self.text
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        let name = self.head(name, kind, help);
        let _ = writeln!(self.text, "{name} {value}");
    }

    /// What stands before the values; the whole name.
    fn head(&mut self, name: &str, kind: &str, help: &str) -> String {
        let name = format!("{}_{name}", self.prefix);
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_in_the_text_format() {
        let mut page = Page::new("keepfs");
        page.counter("words_total", "Words.", 3);
        page.gauge("warmth", "Degrees.", 1.5);
        let buckets = &mut [(0.001, 2), (0.5, 1)].into_iter();
        page.histogram("took_seconds", "Time.", Histogram { buckets, count: 4, sum: 2.5 });
        let expected = "\
# HELP keepfs_words_total Words.
# TYPE keepfs_words_total counter
keepfs_words_total 3
# HELP keepfs_warmth Degrees.
# TYPE keepfs_warmth gauge
keepfs_warmth 1.5
# HELP keepfs_took_seconds Time.
# TYPE keepfs_took_seconds histogram
keepfs_took_seconds_bucket{le=\"0.001\"} 2
keepfs_took_seconds_bucket{le=\"0.5\"} 3
keepfs_took_seconds_bucket{le=\"+Inf\"} 4
keepfs_took_seconds_sum 2.5
keepfs_took_seconds_count 4
";
        assert_eq!(page.finish(), expected);
    }
}
