//! What goes wrong.

use std::time::Duration;

use super::{Happening, World};
use crate::edge::Folder;
use crate::scenario::Fault;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        if self.outcome.is_some() {
            return;
        }
        match fault {
            Fault::Cut { edge, unreachable } => {
                self.unreachable_until[edge] = self.unreachable_until[edge].max(self.now + unreachable);
                self.cut(edge, true);
            }
            Fault::Crash { edge, restart, folder_lost } => {
                self.cut(edge, false);
                self.edges[edge].process = None;
                if folder_lost {
                    self.edges[edge].folder = Folder::default();
                }
                if let Some(after) = restart {
                    self.schedule(self.now + after, Happening::Start { edge });
                }
            }
            Fault::Slow { edge, slowness } => self.slowness[edge] = slowness,
            Fault::Start { edge } => self.start_edge(edge),
            Fault::CrashCloud { restart } if self.cloud.is_some() => {
                self.cloud = None;
                self.run += 1;
                for (connection, at) in self.connections.clone() {
                    if at.run + 1 == self.run {
                        let notices = self.now + self.dice.ms(1, 2000);
                        let reason = "the coordinator is gone".to_owned();
                        self.schedule(notices, Happening::EdgeNotices { connection, reason });
                    }
                }
                self.schedule(self.now + restart, Happening::StartCloud);
            }
            Fault::CrashCloud { .. } => {}
        }
    }

    /// Cuts every connection of an edge: what is on its way arrives up to some moment, then nothing.
    pub(super) fn cut(&mut self, edge: usize, edge_lives: bool) {
        let now = self.now;
        let mine: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, at)| at.edge == edge && at.up.dead_from == Duration::MAX)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in mine {
            let (up, down) = (now + self.dice.ms(0, 60), now + self.dice.ms(0, 60));
            if let Some(at) = self.connections.get_mut(&connection) {
                at.up.dead_from = up;
                at.down.dead_from = down;
            }
            let cloud_notices = now + self.dice.ms(60, 1000);
            self.schedule(cloud_notices, Happening::CloudNotices { connection });
            if edge_lives {
                let edge_notices = now + self.dice.ms(60, 1000);
                let reason = "timed out".to_owned();
                self.schedule(edge_notices, Happening::EdgeNotices { connection, reason });
            }
        }
    }
}
