//! Nothing goes wrong: any cut gives the bits of unsplit training.

use partway_core::coordinator::Cuts;

use crate::scenario::{LAYERS, Scenario};

#[test]
fn every_fixed_cut_gives_the_bits_of_unsplit_training() {
    for cut in 0..=LAYERS {
        for seed in 0..3 {
            Scenario::new(seed).cut_at(cut).run_exactly();
        }
    }
}

#[test]
fn random_cuts_in_every_round_give_the_same_bits() {
    for seed in 0..40 {
        Scenario::new(seed).run_exactly();
        Scenario::new(seed).any_depth().run_exactly();
    }
}

#[test]
fn planned_cuts_give_the_same_bits() {
    for seed in 0..10 {
        Scenario { cuts: Cuts::Planned, ..Scenario::new(seed) }.run_exactly();
    }
}

#[test]
fn moments_that_start_anew_give_the_same_bits_everywhere() {
    for seed in 0..10 {
        Scenario { reset_moments: true, ..Scenario::new(seed) }.run_exactly();
    }
}

#[test]
fn centralized_training_gives_the_bits_of_one_model() {
    for seed in 0..10 {
        Scenario::centralized(seed).run_exactly();
    }
}

#[test]
fn a_given_model_is_what_training_starts_from() {
    for seed in 0..10 {
        Scenario { given: true, ..Scenario::new(seed) }.any_depth().run_exactly();
        Scenario { given: true, ..Scenario::centralized(seed) }.run_exactly();
    }
}
