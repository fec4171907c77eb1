//! Curves of alarms by look, as SVG files.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    drawing::IntoDrawingArea as _,
    element::PathElement,
    prelude::SVGBackend,
    series::LineSeries,
    style::{BLACK, Color as _, Palette as _, Palette99, WHITE},
};

use super::{tables::Outcome, traffic::LOOKS, trial::Tried};

/// Width and height in pixels.
const SIZE: (u32, u32) = (720, 360);

/// A line of a picture: its name, and the outcomes and judge that it is of.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// As the legend has it.
    pub label: String,
    /// The rollouts.
    pub outcome: &'a Outcome,
    /// The judge.
    pub judge: Tried,
}

/// Draws the part of rollouts that have alarmed by each look; `level` as a straight line.
///
/// # Errors
/// If the file cannot be written.
pub fn draw(path: &Path, lines: &[Line<'_>], level: Option<f64>, top: f64) -> Result<()> {
    render(path, lines, level, top).with_context(|| format!("{} could not be drawn", path.display()))
}

fn render(path: &Path, lines: &[Line<'_>], level: Option<f64>, top: f64) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..LOOKS as f64, 0.0..top * 100.0)?;
    chart
        .configure_mesh()
        .x_desc("looks, 10 s apart")
        .y_desc("rollouts with an alarm, %")
        .light_line_style(WHITE)
        .draw()?;
    for (number, Line { label, outcome, judge }) in lines.iter().enumerate() {
        let points = (0..=LOOKS).map(|look| (look as f64, outcome.alarmed_by(*judge, look) * 100.0));
        chart
            .draw_series(LineSeries::new(points, Palette99::pick(number).stroke_width(2)))?
            .label(label.clone())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], Palette99::pick(number)));
    }
    if let Some(level) = level {
        let points = [(0.0, level * 100.0), (LOOKS as f64, level * 100.0)];
        chart
            .draw_series(LineSeries::new(points, BLACK.mix(0.6)))?
            .label(format!("α = {level}"))
            .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], BLACK.mix(0.6)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}
