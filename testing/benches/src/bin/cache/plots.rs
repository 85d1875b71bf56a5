//! What was measured, as pictures.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use benches::caches::Kind;
use benches::report::time;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::hits::{Figure, thousands};
use crate::rates::Tried;
use crate::turns::Setting;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FONT: &str = "sans-serif";
const FONT_SIZE: i32 = 14;

/// Room beside the bars: for the names of the sides and of the numbers of keys,
/// and for the figures.
const NAMES_WIDTH: i32 = 185;
const KEYS_WIDTH: i32 = 60;
const FIGURES_WIDTH: i32 = 65;
const BAR_HEIGHT: i32 = 12;

/// Writes a picture.
pub(crate) fn write(path: &Path, picture: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))
}

/// Hit rate against capacity: a panel for each trace, a line for each cache.
pub(crate) fn rates(all: &[Tried]) -> Result<String> {
    let mut picture = String::new();
    let root = SVGBackend::with_string(&mut picture, (1000, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((2, 4));
    // Those of one trace stand together.
    for (panel, of_trace) in panels.iter().zip(all.chunk_by(|a, b| a.trace == b.trace)) {
        rates_of_trace(panel, of_trace)?;
    }
    if let Some(last) = panels.last() {
        for (line, kind) in (0..).zip(Kind::ALL) {
            let y = 60 + 24 * line;
            last.draw(&PathElement::new([(40, y), (80, y)], stroke(kind)))?;
            last.draw(&Text::new(kind.name(), (90, y), text(Pos::new(HPos::Left, VPos::Center))))?;
        }
        let note = "hits in % of the accesses,";
        last.draw(&Text::new(note, (40, 150), text(Pos::new(HPos::Left, VPos::Center))))?;
        let note = "with room for 1, 5 and 20 % of the keys";
        last.draw(&Text::new(note, (40, 168), text(Pos::new(HPos::Left, VPos::Center))))?;
    }
    root.present()?;
    drop(panels);
    drop(root);
    Ok(picture)
}

fn rates_of_trace(panel: &Area<'_>, tried: &[Tried]) -> Result<()> {
    let name = tried.first().map(|one| one.trace.as_str()).unwrap_or_default();
    let percents: Vec<String> = tried.iter().map(|one| format!("{} %", one.percent)).collect();
    let last = tried.len().saturating_sub(1) as f64;
    let mut chart = ChartBuilder::on(panel)
        .caption(name, (FONT, 16))
        .margin(8)
        .margin_right(20)
        .x_label_area_size(22)
        .y_label_area_size(34)
        .build_cartesian_2d(0.0..last, 0.0..100.0)?;
    chart
        .configure_mesh()
        .label_style((FONT, FONT_SIZE))
        .x_labels(tried.len())
        .x_label_formatter(&|at| percents.get(*at as usize).cloned().unwrap_or_default())
        .y_labels(6)
        .y_label_formatter(&|percent| format!("{percent:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        let points = tried
            .iter()
            .enumerate()
            .map(|(at, one)| (at as f64, one.hits().get(index).copied().unwrap_or_default()));
        chart.draw_series(LineSeries::new(points, stroke(kind)).point_size(3))?;
    }
    Ok(())
}

/// What a hit takes: a panel for each setting, bars for each side.
pub(crate) fn hits(all: &[Figure]) -> Result<String> {
    let mut picture = String::new();
    let mut settings: Vec<Setting> = Vec::new();
    for figure in all {
        if !settings.contains(&figure.setting) {
            settings.push(figure.setting);
        }
    }
    let of_first = all.iter().filter(|figure| Some(&figure.setting) == settings.first()).count();
    let height = 50 + (BAR_HEIGHT + 5) * i32::try_from(of_first)?;
    let size = (1000, u32::try_from(height)? * settings.len().div_ceil(2) as u32);
    let root = SVGBackend::with_string(&mut picture, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, setting) in root.split_evenly((settings.len().div_ceil(2), 2)).iter().zip(settings)
    {
        let figures: Vec<&Figure> = all.iter().filter(|one| one.setting == setting).collect();
        hits_of_setting(panel, setting, &figures)?;
    }
    root.present()?;
    drop(root);
    Ok(picture)
}

fn hits_of_setting(panel: &Area<'_>, setting: Setting, figures: &[&Figure]) -> Result<()> {
    let width = i32::try_from(panel.dim_in_pixel().0)?;
    let left = NAMES_WIDTH + KEYS_WIDTH;
    let longest = figures.iter().map(|figure| figure.seconds).fold(0.0, f64::max);
    let per_second = f64::from(width - left - FIGURES_WIDTH) / longest;
    let title = format!("{}: time from one hit to the next", setting.name());
    let middle = Pos::new(HPos::Center, VPos::Top);
    panel.draw(&Text::new(title, (width / 2, 12), text(middle)))?;
    let mut sides: Vec<&str> = Vec::new();
    for figure in figures {
        if !sides.contains(&figure.side) {
            sides.push(figure.side);
        }
    }
    let mut top = 40;
    for side in sides {
        let bars = figures.iter().filter(|figure| figure.side == side);
        let name = side.replace('`', "");
        let right = Pos::new(HPos::Right, VPos::Top);
        panel.draw(&Text::new(name, (NAMES_WIDTH, top), text(right)))?;
        for (number, figure) in (0..).zip(bars) {
            let keys = thousands(figure.keys);
            panel.draw(&Text::new(keys, (left - 4, top), text(right)))?;
            let end = left + (figure.seconds * per_second) as i32;
            let bar =
                Rectangle::new([(left, top), (end, top + BAR_HEIGHT)], shade(number).filled());
            panel.draw(&bar)?;
            let after = Pos::new(HPos::Left, VPos::Top);
            panel.draw(&Text::new(time(figure.seconds), (end + 4, top), text(after)))?;
            top += BAR_HEIGHT + 2;
        }
        top += 9;
    }
    Ok(())
}

fn text(position: Pos) -> TextStyle<'static> {
    (FONT, FONT_SIZE).into_font().color(&BLACK).pos(position)
}

fn stroke(kind: Kind) -> ShapeStyle {
    match kind {
        Kind::Ours => RGBColor(0, 90, 181).stroke_width(3),
        Kind::Moka => RGBColor(220, 120, 20).stroke_width(2),
        Kind::Lru => RGBColor(120, 120, 120).stroke_width(2),
    }
}

/// The more keys, the darker.
fn shade(number: usize) -> RGBColor {
    match number {
        0 => RGBColor(150, 190, 230),
        1 => RGBColor(70, 130, 190),
        _ => RGBColor(20, 70, 130),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::Outcome;
    use crate::turns::Pace;

    #[test]
    fn every_trace_has_a_panel_and_every_cache_a_line() {
        let outcome = |hits| Outcome { hits, seconds: 1e-7, entries: 1.0 };
        let tried = |trace: &str, percent| Tried {
            trace: trace.to_owned(),
            has_scans: false,
            percent,
            outcomes: vec![[50.0, 40.0, 30.0].map(outcome)],
        };
        let picture = rates(&[tried("one", 1), tried("one", 5), tried("two", 1), tried("two", 5)]);
        let picture = picture.unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        for name in ["one", "two", "1 %", "5 %", "ours", "moka", "LRU"] {
            assert!(picture.contains(name), "{name}");
        }
    }

    #[test]
    fn every_figure_has_its_bar() {
        let figure = |threads, keys, seconds| Figure {
            side: "`ours`",
            setting: Setting { threads, value_bytes: 100, pace: Pace::Ahead },
            keys,
            seconds,
        };
        let picture = hits(&[
            figure(1, 1_000, 41e-9),
            figure(1, 10_000, 52e-9),
            figure(2, 1_000, 23e-9),
            figure(2, 10_000, 34e-9),
        ]);
        let picture = picture.unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        for text in ["1 thread,", "2 threads,", "ours", "10,000", "41.0 ns", "34.0 ns"] {
            assert!(picture.contains(text), "{text}");
        }
    }
}
