//! Small multiples as SVG: one panel per figure, both engines as lines, sizes on a logarithmic axis.
//!
//! Every value stands at its point, every line has its name at its end; there is no legend to look
//! up. The picture brings its own light background, so that it reads on a dark page, too.

use std::fmt::Write as _;

/// Places, in pixels.
const MARGIN: f64 = 24.0;
const PANEL_WIDTH: f64 = 304.0;
const PANEL_HEIGHT: f64 = 230.0;
const GAP: f64 = 18.0;
const HEAD: f64 = 62.0;
const COLUMNS: usize = 3;

/// Where the plot is within its panel.
const PLOT_LEFT: f64 = 16.0;
const PLOT_RIGHT: f64 = PANEL_WIDTH - 22.0;
const PLOT_TOP: f64 = 58.0;
const PLOT_BOTTOM: f64 = PANEL_HEIGHT - 50.0;

/// Where sizes are named: low enough for a small value to stand below its point.
const NAMES: f64 = PLOT_BOTTOM + 31.0;

/// What lies beyond the outermost points, as a part of the axis.
const PADDING: f64 = 0.09;

const FONT: &str = "-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif";
const PAPER: &str = "#ffffff";
const PANEL: &str = "#f6f8fa";
const GRID: &str = "#d8dee4";
const INK: &str = "#1f2328";
const FAINT: &str = "#59636e";
const COLOURS: [&str; 2] = ["#0a66c2", "#b35900"];

/// How values become heights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// In proportion, with zero at the bottom.
    FromZero,
    /// By their logarithm.
    Log,
}

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    /// From left to right; all positive.
    pub(super) points: Vec<(f64, f64)>,
}

/// One figure.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) unit: String,
    pub(super) scale: Scale,
    pub(super) lines: [Line; 2],
}

/// A picture.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// What the axis of all panels says.
    pub(super) x: String,
    /// Below all.
    pub(super) notes: Vec<String>,
    pub(super) panels: Vec<Panel>,
}

/// From values to places.
#[derive(Clone, Copy, Debug)]
struct Axis {
    log: bool,
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// A logarithmic axis around these values.
    fn log(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).log10();
        let most = values.fold(f64::NEG_INFINITY, f64::max).log10();
        // A single value stands in the middle of a decade.
        let pad = if most - least > 0.0 {
            (most - least) * PADDING
        } else {
            0.5
        };
        Self {
            log: true,
            least: least - pad,
            most: most + pad,
            from,
            to,
        }
    }

    /// An axis from zero to a little above the greatest value.
    fn from_zero(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let most = values.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        Self {
            log: false,
            least: 0.0,
            most: most * (1.0 + 2.0 * PADDING),
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        self.from + (value - self.least) / (self.most - self.least) * (self.to - self.from)
    }
}

impl Chart {
    /// The picture.
    pub(super) fn svg(&self) -> String {
        let rows = self.panels.len().div_ceil(COLUMNS);
        let across = |count: usize, each: f64| {
            #[expect(clippy::cast_precision_loss, reason = "a handful of panels")]
            let count = count as f64;
            count * (each + GAP)
        };
        let width = 2.0 * MARGIN + across(COLUMNS, PANEL_WIDTH) - GAP;
        let below = HEAD + across(rows, PANEL_HEIGHT);
        let height = below + 18.0 * across(self.notes.len(), 1.0) / (1.0 + GAP) + 14.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" font-family=\"{FONT}\">\n\
             <title>{title}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{PAPER}\"/>\n",
            title = escaped(&self.title)
        );
        text(&mut svg, (MARGIN, 38.0), Look::TITLE, &self.title);
        self.key(&mut svg, width - MARGIN);
        for (place, panel) in self.panels.iter().enumerate() {
            let x = MARGIN + across(place % COLUMNS, PANEL_WIDTH);
            let y = HEAD + across(place / COLUMNS, PANEL_HEIGHT);
            let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
            panel.draw(&mut svg, &self.x);
            svg.push_str("</g>\n");
        }
        for (place, note) in self.notes.iter().enumerate() {
            let y = below + 8.0 + across(place, 18.0 - GAP);
            text(&mut svg, (MARGIN, y), Look::UNIT, note);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Which colour is which, once, for those that look here first.
    fn key(&self, svg: &mut String, right: f64) {
        let Some(panel) = self.panels.first() else {
            return;
        };
        let mut x = right;
        for (line, colour) in panel.lines.iter().zip(COLOURS).rev() {
            if line.points.is_empty() {
                continue;
            }
            let look = Look::of(14, colour).bold().at("end");
            text(svg, (x, 38.0), look, &line.name);
            #[expect(clippy::cast_precision_loss, reason = "a short name")]
            let taken = line.name.len() as f64 * 9.4;
            x -= taken + 34.0;
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"33.5\" r=\"4.5\" fill=\"{colour}\"/>",
                x + 22.0
            );
        }
    }
}

impl Panel {
    fn draw(&self, svg: &mut String, x_name: &str) {
        let _ = writeln!(
            svg,
            "<rect width=\"{PANEL_WIDTH}\" height=\"{PANEL_HEIGHT}\" rx=\"6\" fill=\"{PANEL}\"/>"
        );
        text(svg, (PLOT_LEFT, 24.0), Look::HEADING, &self.title);
        text(svg, (PLOT_LEFT, 41.0), Look::UNIT, &self.unit);
        let all = self.lines.iter().flat_map(|line| line.points.iter());
        if all.clone().next().is_none() {
            return;
        }
        let (xs, ys) = (all.clone().map(|point| point.0), all.map(|point| point.1));
        let x = Axis::log(xs.clone(), PLOT_LEFT, PLOT_RIGHT);
        let y = match self.scale {
            Scale::FromZero => Axis::from_zero(ys, PLOT_BOTTOM, PLOT_TOP),
            Scale::Log => Axis::log(ys, PLOT_BOTTOM - 10.0, PLOT_TOP + 12.0),
        };
        rule(svg, (PLOT_LEFT, PLOT_BOTTOM), (PLOT_RIGHT, PLOT_BOTTOM));
        let mut sizes: Vec<f64> = xs.collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        let mut free_from = f64::NEG_INFINITY;
        for size in sizes {
            let at = x.place(size);
            rule(svg, (at, PLOT_BOTTOM), (at, PLOT_BOTTOM + 4.0));
            // Sizes too close to each other are not all named.
            if at - free_from > 34.0 {
                text(svg, (at, NAMES), Look::TICK, &size_text(size));
                free_from = at;
            }
        }
        text(svg, (PLOT_RIGHT, PANEL_HEIGHT - 5.0), Look::AXIS, x_name);
        for (line, colour) in self.lines.iter().zip(COLOURS) {
            self.draw_line(svg, line, colour, &x, &y);
        }
    }

    fn draw_line(&self, svg: &mut String, line: &Line, colour: &'static str, x: &Axis, y: &Axis) {
        let places = line.points.iter().map(|(a, b)| (x.place(*a), y.place(*b)));
        let way: Vec<String> = places
            .clone()
            .map(|(a, b)| format!("{a:.1},{b:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-linejoin=\"round\"/>",
            way.join(" ")
        );
        for ((at, height), (size, value)) in places.zip(&line.points) {
            let _ = writeln!(
                svg,
                "<circle cx=\"{at:.1}\" cy=\"{height:.1}\" r=\"3.5\" fill=\"{colour}\" \
                 stroke=\"{PANEL}\" stroke-width=\"1.5\"/>"
            );
            let above = self.is_above(line, *size, *value);
            let beside = if above { height - 8.0 } else { height + 16.0 };
            let look = Look::of(11, colour).bold().at("middle");
            text(svg, (at, beside), look, &value_text(*value));
        }
    }

    /// Whether a value is written above its point: where the other line runs below, or not at all.
    fn is_above(&self, line: &Line, size: f64, value: f64) -> bool {
        let others = self.lines.iter().filter(|other| other.name != line.name);
        let mut there = others.filter_map(|other| at(&other.points, size));
        there.all(|other| {
            // Of two equal values the first line's is above.
            value > other || (value - other).abs() < f64::EPSILON && self.lines[0].name == line.name
        })
    }
}

/// The height of a line at some size, drawn as it is, straight between its points.
fn at(points: &[(f64, f64)], size: f64) -> Option<f64> {
    let exact = points.iter().find(|(x, _)| (x - size).abs() < 0.5);
    let between = || {
        let (a, b) = points
            .iter()
            .zip(points.iter().skip(1))
            .find(|(a, b)| a.0 < size && size < b.0)?;
        let part = (size / a.0).log10() / (b.0 / a.0).log10();
        Some(a.1 + (b.1 - a.1) * part)
    };
    exact.map(|(_, y)| *y).or_else(between)
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{GRID}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// How words look.
#[derive(Clone, Copy, Debug)]
struct Look {
    size: u8,
    colour: &'static str,
    /// Which end of the words stands at the place: `start`, `middle`, `end`.
    anchor: &'static str,
    bold: bool,
}

impl Look {
    const TITLE: Self = Self::of(20, INK).bold();
    const HEADING: Self = Self::of(14, INK).bold();
    const UNIT: Self = Self::of(12, FAINT);
    const TICK: Self = Self::of(11, FAINT).at("middle");
    const AXIS: Self = Self::of(10, FAINT).at("end");

    const fn of(size: u8, colour: &'static str) -> Self {
        Self {
            size,
            colour,
            anchor: "start",
            bold: false,
        }
    }

    const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    const fn at(self, anchor: &'static str) -> Self {
        Self { anchor, ..self }
    }
}

/// Writes words; with a rim of the panel's colour, so that lines do not strike them through.
fn text(svg: &mut String, (x, y): (f64, f64), look: Look, words: &str) {
    let Look {
        size,
        colour,
        anchor,
        bold,
    } = look;
    let weight = if bold { 600 } else { 400 };
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"{weight}\" \
         fill=\"{colour}\" text-anchor=\"{anchor}\" paint-order=\"stroke\" stroke=\"{PANEL}\" \
         stroke-width=\"2\">{}</text>",
        escaped(words)
    );
}

fn escaped(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// 10,000 as `10k`, 2,500,000 as `2.5M`.
fn size_text(size: f64) -> String {
    let (count, unit) = if size >= 1e6 {
        (size / 1e6, "M")
    } else if size >= 1e3 {
        (size / 1e3, "k")
    } else {
        (size, "")
    };
    let text = format!("{count:.1}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// Three digits, more where they are whole.
fn value_text(value: f64) -> String {
    if value >= 1_000.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive figure, far below 2^64"
        )]
        let whole = value.round() as u64;
        indicatif::HumanCount(whole).to_string()
    } else {
        super::bars::shown(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_gives_each_decade_the_same_room() {
        let axis = Axis::log([1e4, 1e6].into_iter(), 0.0, 118.0);
        let places = [1e4, 1e5, 1e6].map(|value| format!("{:.1}", axis.place(value)));
        assert_eq!(places, ["9.0", "59.0", "109.0"]);
        // One value has no room to share: it stands in the middle.
        let single = Axis::log([1e4].into_iter(), 0.0, 100.0);
        assert!((single.place(1e4) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn an_axis_from_zero_keeps_proportions() {
        // Down the screen is up the axis.
        let axis = Axis::from_zero([10.0, 20.0].into_iter(), 118.0, 0.0);
        assert!((axis.place(0.0) - 118.0).abs() < 1e-9);
        assert!((axis.place(10.0) - 68.0).abs() < 1e-9);
        assert!((axis.place(20.0) - 18.0).abs() < 1e-9);
    }

    #[test]
    fn values_and_sizes_are_short() {
        let sizes = [500.0, 1e4, 2.5e6, 1e7].map(size_text);
        assert_eq!(sizes, ["500", "10k", "2.5M", "10M"]);
        let values = [0.034, 12.34, 567.8, 12_345.6].map(value_text);
        assert_eq!(values, ["0.03", "12.3", "568", "12,346"]);
    }

    #[test]
    fn every_value_stands_at_its_point_away_from_the_other_line() {
        let line = |name: &str, values: &[(f64, f64)]| Line {
            name: name.to_owned(),
            points: values.to_vec(),
        };
        let panel = Panel {
            title: "a < b & c".to_owned(),
            unit: "a second".to_owned(),
            scale: Scale::FromZero,
            lines: [
                line("SQLite", &[(1e4, 9_000.0), (1e6, 8_000.0)]),
                line(
                    "PostgreSQL",
                    &[(1e4, 5_000.0), (1e6, 4_900.0), (1e7, 4_800.0)],
                ),
            ],
        };
        assert!(panel.is_above(&panel.lines[0], 1e4, 9_000.0));
        assert!(!panel.is_above(&panel.lines[1], 1e4, 5_000.0));
        assert!(panel.is_above(&panel.lines[1], 1e7, 4_800.0), "alone there");
        let chart = Chart {
            title: "Growth".to_owned(),
            x: "postings".to_owned(),
            notes: vec!["a note".to_owned()],
            panels: vec![panel],
        };
        let svg = chart.svg();
        for words in ["9,000", "4,800", "10M", "a &lt; b &amp; c", "a note"] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
        let tags = |tag: &str| svg.matches(tag).count();
        assert_eq!(tags("<g "), tags("</g>"));
        assert_eq!(tags("<text "), tags("</text>"));
    }
}
